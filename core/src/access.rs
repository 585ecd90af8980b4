//! IP access lists: single addresses, CIDR blocks and ranges, for IPv4 and IPv6.
