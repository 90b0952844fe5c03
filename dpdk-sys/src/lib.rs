//! Raw bindings to DPDK 22.11 and to libpcap's filters, generated from `wrapper.h` with a narrow allow-list, and the few
//! functions of `shim.c` (prefix `vxs_`) for what DPDK has only as inline code or thread-local variables.
//!
//! Only the crate `rte-rs` calls this one. Names, units and contracts are DPDK's: see its API reference,
//! <https://doc.dpdk.org/api-22.11/>.

mod bindings {
    #![allow(
        missing_docs,
        non_camel_case_types,
        non_snake_case,
        non_upper_case_globals,
        unsafe_op_in_unsafe_fn,
        unnecessary_transmutes,
        clippy::all,
        clippy::pedantic,
        clippy::undocumented_unsafe_blocks,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
