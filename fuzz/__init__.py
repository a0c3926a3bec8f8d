"""Damaged, lying and hostile captures by the thousand: `make fuzz`, see README.md."""
