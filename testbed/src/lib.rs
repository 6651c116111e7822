//! A whole Millrace cluster in network namespaces.
