"""The Hyper-V host as the rest of hvps sees it: typed operations over PSRP, one method each."""
