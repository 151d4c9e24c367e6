"""Which CPU does this guest see, and why?"""
