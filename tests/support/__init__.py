"""What tests share: captures by name, the data of others, the command line, the scripts of tools/."""
