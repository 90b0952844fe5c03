//! `vxctl`: the command line of a running switch.
