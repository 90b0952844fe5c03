//! The daemon and `vxctl` as users start them, on devices that need neither root nor hugepages.

mod changes;
mod lifecycle;
mod looking;
mod rules;
mod running;
