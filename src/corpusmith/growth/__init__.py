"""Where weights come from: small models made larger, large ones smaller, several made one."""
