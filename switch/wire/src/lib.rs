//! Wire formats: header views, flow key extraction and tunnel headers.
//!
//! This crate knows bytes and nothing else: no DPDK, no allocation, no unsafe code. Everything that
//! comes off a wire is looked at here first, so nothing here panics on any input.
#![deny(unsafe_code)]
#![no_std]
#[cfg(test)]
extern crate std;

mod bytes;
pub mod field;
pub mod fragment;
mod reason;

pub mod addr;
pub mod checksum;
pub mod crc32c;
pub mod ecn;
pub mod gro;
pub mod gso;
pub mod hot;
pub mod key;
pub mod parse;
pub mod proto;
pub mod rewrite;
pub mod too_big;
pub mod tunnel;
pub mod view;
