//! Finds libdpdk, compiles `shim.c` and `callbacks.c`, and generates the bindings from `wrapper.h`.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

/// The libraries that the allow-list below needs. PMDs are not among them: EAL loads those by itself,
/// except `net_ring`, whose `rte_eth_from_rings` is called directly. libpcap comes with DPDK, whose `net_pcap` uses it.
const LIBS: [&str; 10] = [
    "rte_net_ring",
    "rte_vhost",
    "rte_pdump",
    "rte_ip_frag",
    "rte_ethdev",
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_eal",
    "pcap",
];

const FUNCTIONS: &str = "vxs_.*\
    |rte_eal_(init|cleanup|remote_launch|wait_lcore|get_lcore_state|has_hugepages)\
    |rte_strerror|rte_version|rte_log_(get|set)_level|rte_get_tsc_hz\
    |rte_get_main_lcore|rte_get_next_lcore|rte_lcore_to_socket_id|rte_lcore_cpuset|rte_socket_id\
    |rte_dev_(probe|remove|name)\
    |rte_mempool_(free|avail_count|obj_iter)|rte_pktmbuf_(copy|free_bulk)\
    |rte_ring_(create|free)|rte_eth_from_rings|rte_pdump_(init|uninit)|rte_mp_action_(register|unregister)\
    |rte_eth_dev_(info_get|configure|start|stop|close|adjust_nb_rx_tx_desc|set_mtu|get_mtu|get_name_by_port)\
    |rte_eth_dev_(get_port_by_name|socket_id)\
    |rte_eth_(rx|tx)_queue_setup|rte_eth_macaddr_get|rte_eth_promiscuous_enable\
    |rte_ip_frag_table_(create|destroy|del_expired_entries)\
    |rte_ipv[46]_(fragment_packet|frag_reassemble_packet)\
    |rte_eth_find_next|rte_eth_link_get_nowait|rte_eth_stats_get|rte_eth_xstats_get|rte_eth_xstats_get_names\
    |rte_vhost_driver_(register|unregister|start|callback_register|disable_features|set_protocol_features)\
    |rte_vhost_get_(ifname|negotiated_features|vring_num|vhost_vring|mem_table|vring_base|numa_node|log_base)\
    |rte_vhost_(set_vring_base|log_write|extern_callback_register)\
    |pcap_(open_dead|compile|geterr|close|freecode|offline_filter)";
const TYPES: &str = "rte_mbuf|rte_mempool|rte_ring|rte_eth_conf|rte_eth_dev_info|rte_eth_stats|rte_eth_xstat\
    |rte_eth_xstat_name|rte_eth_link|rte_eth_fp_ops|rte_eth_rx_mq_mode|rte_ether_addr|rte_lcore_state_t\
    |rte_vhost_(memory|mem_region|vring|device_ops|user_extern_ops|msg_result)|bpf_program|pcap_pkthdr\
    |rte_ip_frag_death_row|rte_ipv4_hdr|rte_ipv6_hdr|rte_ipv6_fragment_ext";
const VARIABLES: &str = "VXS_.*|RTE_VHOST_USER_CLIENT|rte_eth_fp_ops|RTE_MAX_ETHPORTS|RTE_MAX_LCORE\
    |RTE_PKTMBUF_HEADROOM\
    |RTE_MBUF_DEFAULT_BUF_SIZE|RTE_ETH_NAME_MAX_LEN|RTE_ETHER_(HDR_LEN|CRC_LEN|MTU)|RTE_ETH_MQ_RX_RSS_FLAG\
    |RTE_ETH_SPEED_NUM_UNKNOWN|RTE_LOGTYPE_USER1|RTE_LOG_NOTICE|DLT_EN10MB|PCAP_NETMASK_UNKNOWN";

fn main() {
    for file in ["build.rs", "wrapper.h", "shim.c", "callbacks.c"] {
        println!("cargo::rerun-if-changed={file}");
    }
    // Any 22.11 will do and no other: struct layouts are read from its headers, and 23.11 changed them.
    let dpdk = pkg_config::Config::new()
        .range_version("22.11".."23.0")
        .cargo_metadata(false)
        .probe("libdpdk")
        .unwrap_or_else(|e| panic!("DPDK 22.11 is needed (Debian 12: apt-get install libdpdk-dev): {e}"));
    let cflags = cflags();

    // The shim goes first on the linker's line: it needs the DPDK libraries that follow.
    let mut shim = cc::Build::new();
    shim.files(["shim.c", "callbacks.c"]).opt_level(2).warnings(true).extra_warnings(false);
    // The shim is a part of DPDK to AddressSanitizer: it may touch mbufs that Rust code may not.
    shim.flag_if_supported("-fno-sanitize=address");
    for flag in &cflags {
        shim.flag(flag);
    }
    shim.compile("vxs_shim");
    for path in &dpdk.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for lib in LIBS {
        println!("cargo::rustc-link-lib=dylib={lib}");
    }

    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&cflags)
        .allowlist_function(FUNCTIONS)
        .allowlist_type(TYPES)
        .allowlist_var(VARIABLES)
        .opaque_type("rte_eth_conf__bindgen_ty_2|rte_device")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .derive_debug(false)
        .generate_comments(false)
        .layout_tests(true)
        .generate()
        .unwrap_or_else(|e| {
            panic!("bindgen could not read DPDK's headers (is libclang-dev installed?): {e}")
        });
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("bindings.rs"), bindings.to_string()).expect("OUT_DIR is writable");
}

/// All of `pkg-config --cflags libdpdk`. The `pkg-config` crate keeps only `-I` and `-D`, but DPDK's
/// headers do not parse without `-include rte_config.h -march=corei7`.
fn cflags() -> Vec<String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(&tool)
        .args(["--cflags", "libdpdk"])
        .output()
        .unwrap_or_else(|e| panic!("{tool} --cflags libdpdk does not run: {e}"));
    assert!(output.status.success(), "{tool} --cflags libdpdk: {}", String::from_utf8_lossy(&output.stderr));
    let mut flags: Vec<String> =
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect();
    // `rte_lcore_cpuset` is declared only where `cpu_set_t` is.
    flags.push("-D_GNU_SOURCE".into());
    flags
}
