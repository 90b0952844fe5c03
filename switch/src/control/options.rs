//! The command line: EAL's options, `--`, our own.

use super::log::Format;
use api::default_socket;
use clap::{CommandFactory, Parser};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A DPDK poll-mode VXLAN switch.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "vxswitch",
    version,
    override_usage = "vxswitch [EAL options] -- [--config FILE | --persist FILE | --ovsdb TARGET] [--control SOCKET] [--metrics ADDR:PORT] [--take-over] ...",
    after_help = "EAL options stand before `--` and are DPDK's (-l 0-1, --vdev=..., -a 0000:03:00.0, ...); see\n\
                  https://doc.dpdk.org/guides-22.11/linux_gsg/linux_eal_parameters.html",
    arg_required_else_help = false
)]
pub struct Options {
    /// File with the desired state; without one the switch starts empty
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// As --config, and every acknowledged change is written back to FILE, which need not exist yet
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub persist: Option<PathBuf>,
    /// How events are logged
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub log: Format,
    /// What is logged: error, warn, info, debug or trace, also by target as in info,vxswitch::port=debug
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub log_level: String,
    /// Open vSwitch database with the desired state, instead of a file: unix:FILE or tcp:HOST:PORT
    #[arg(long, value_name = "TARGET", conflicts_with_all = ["config", "persist"])]
    pub ovsdb: Option<ovsdb::Target>,
    /// Unix socket of the control API
    #[arg(long, value_name = "SOCKET", env = "VXSWITCH_CONTROL", default_value_os_t = default_socket())]
    pub control: PathBuf,
    /// Local group whose members may use the control socket, besides its owner
    #[arg(long, value_name = "GROUP")]
    pub control_group: Option<String>,
    /// Address of the Prometheus endpoint and of the page for browsers; neither changes anything
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9464")]
    pub metrics: SocketAddr,
    /// Packet buffers, instead of the file's [dpdk] mbufs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(512..=1 << 24))]
    pub total_num_mbufs: Option<u32>,
    /// Bytes of a packet buffer with its headroom of 128, instead of [dpdk] mbuf-size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1664..=16_384))]
    pub mbuf_size: Option<u32>,
    /// Descriptors of an RX ring, instead of [dpdk] rxd
    #[arg(long, value_name = "N", value_parser = descriptors)]
    pub rxd: Option<u32>,
    /// Descriptors of a TX ring, instead of [dpdk] txd
    #[arg(long, value_name = "N", value_parser = descriptors)]
    pub txd: Option<u32>,
    /// Seconds that the end may take after SIGTERM, before it is forced
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub stop_timeout: u32,
    /// Take the place of the vxswitch that answers on the control socket: its configuration, taps, MAC addresses and
    /// neighbours; it ends
    #[arg(long)]
    pub take_over: bool,
    /// Check the file and exit: 0 if it is good, 2 if it is not
    #[arg(long)]
    pub check: bool,
    /// Print the man page and exit; for packages
    #[arg(long, hide = true)]
    pub man: bool,
}

/// The man page, section 8.
///
/// # Errors
/// None, as it is written into memory.
pub fn man_page() -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Options::command()).section("8").render(&mut page)?;
    Ok(page)
}

fn descriptors(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|n: &u32| (32..=32_768).contains(n) && n.is_power_of_two())
        .ok_or_else(|| "expected a power of two from 32 to 32768".to_owned())
}

/// Splits a command line, program name first, into EAL's arguments (program name first too) and our own.
///
/// Without `--` everything is EAL's, as with `dpdk-testpmd`, unless it is all ours: `vxswitch --help`,
/// `vxswitch --check --config FILE`.
///
/// # Errors
/// What clap says, also for `--help` and `--version`.
pub fn parse(args: &[String]) -> Result<(Vec<String>, Options), clap::Error> {
    let (program, rest) =
        args.split_first().map_or(("vxswitch", args), |(first, rest)| (first.as_str(), rest));
    let own = |words: &[String]| Options::try_parse_from([program.to_owned()].iter().chain(words));
    if let Some(at) = rest.iter().position(|arg| arg == "--") {
        let mut eal = vec![program.to_owned()];
        eal.extend_from_slice(&rest[..at]);
        return own(&rest[at + 1..]).map(|options| (eal, options));
    }
    match own(rest) {
        Ok(options) => Ok((vec![program.to_owned()], options)),
        Err(error) if !error.use_stderr() => Err(error),
        Err(_) => {
            let mut eal = vec![program.to_owned()];
            eal.extend_from_slice(rest);
            own(&[]).map(|options| (eal, options))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn eals_options_pass_through_untouched() {
        let (eal, options) =
            parse(&words("vxswitch -l 0-1 --vdev=net_tap0,iface=x -- --config a.toml --rxd 512 --check"))
                .unwrap();
        assert_eq!(eal, words("vxswitch -l 0-1 --vdev=net_tap0,iface=x"));
        assert_eq!(options.config, Some("a.toml".into()));
        assert_eq!((options.rxd, options.check), (Some(512), true));
        assert_eq!(options.metrics.to_string(), "127.0.0.1:9464");
    }

    #[test]
    fn without_a_separator_options_are_eals_unless_all_are_ours() {
        assert_eq!(parse(&words("vxswitch -l 0 --no-huge")).unwrap().0, words("vxswitch -l 0 --no-huge"));
        let (eal, options) = parse(&words("vxswitch --check --config a.toml")).unwrap();
        assert_eq!((eal, options.check), (words("vxswitch"), true));
        assert!(!parse(&words("vxswitch --help")).unwrap_err().use_stderr());
        assert!(!parse(&words("vxswitch --version")).unwrap_err().use_stderr());
    }

    #[test]
    fn the_man_page_names_every_option() {
        let page = String::from_utf8(man_page().unwrap()).unwrap();
        for option in ["config", "persist", "log\\-level", "stop\\-timeout"] {
            assert!(page.contains(option), "no {option} in {page}");
        }
        assert!(page.contains(".TH vxswitch 8"), "{page}");
    }

    #[test]
    fn bad_own_options_are_refused() {
        for bad in ["--rxd 1000", "--total-num-mbufs 1", "--metrics nine", "--what"] {
            assert!(parse(&words(&format!("vxswitch -l 0 -- {bad}"))).unwrap_err().use_stderr(), "{bad}");
        }
    }
}
