"""The path from the silicon to the guest: decisions, the pipeline that joins the parties, and explanations read off its trace."""
