//! The lower half of [`crate::port::SystemPort`]: packet sockets (packet(7)) whose frames have a virtio header in front, so that
//! checksums and segmentation cross them as they cross a tap.

pub(crate) mod socket;
