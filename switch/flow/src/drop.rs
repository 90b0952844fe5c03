//! Why a packet was not sent on. Every packet that a worker frees without transmitting it is counted
//! under exactly one of these, per input port; `vxctl drops` and `vxswitch_drops_total` show them.

use wire::tunnel::outer::OuterError;

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $text:literal)*) => {
        /// A reason to free a packet instead of sending it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $variant,)*
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant),*];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name that users, metrics and tests see.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name),* }
            }

            /// What happened, and what to do about it.
            pub const fn description(self) -> &'static str {
                match self { $(DropReason::$variant => $text),* }
            }
        }
    };
}

drop_reasons! {
    // What arrives is not a frame, or not a tunnel packet that RFC 7348 lets through.
    EthernetTruncated "ethernet_truncated" "frame shorter than an Ethernet header"
    VirtioHeader "virtio_header" "of a virtual machine, with a virtio header or descriptors that contradict themselves, or that ask for what its driver has not negotiated"
    Segments "segments" "frame spread over more mbuf segments than fit into one; raise mbuf-size"
    TunnelTransport "tunnel_transport" "tunnel packet of another IP protocol than its tunnel's after all"
    TunnelIpv4Header "tunnel_ipv4_header" "tunnel packet whose outer IPv4 header is cut off"
    TunnelIpv4Checksum "tunnel_ipv4_checksum" "tunnel packet with a wrong outer IPv4 checksum"
    TunnelIpv4Length "tunnel_ipv4_length" "tunnel packet whose outer IPv4 length does not fit the frame"
    TunnelIpv6Header "tunnel_ipv6_header" "tunnel packet whose outer IPv6 header is cut off"
    TunnelIpv6Length "tunnel_ipv6_length" "tunnel packet whose outer IPv6 length does not fit the frame"
    TunnelFragment "tunnel_fragment" "IP fragment for a VTEP address where tunnel packets are not reassembled (options:reassemble=false)"
    ReassemblyFull "reassembly_full" "fragment of a tunnel packet; too many from this port wait for others of their packet already"
    ReassemblyFailed "reassembly_failed" "fragment of a tunnel packet whose others did not come within a second, are more than 8, or do not fit together"
    TunnelUdpLength "tunnel_udp_length" "tunnel packet whose UDP length does not fit the IP length"
    TunnelUdpChecksum "tunnel_udp_checksum" "tunnel packet with a wrong UDP checksum"
    TunnelUdp6ZeroChecksum "tunnel_udp6_zero_checksum" "tunnel packet over IPv6 without a UDP checksum"
    TunnelTruncated "tunnel_truncated" "tunnel packet whose tunnel header is cut off"
    TunnelChecksum "tunnel_checksum" "tunnel packet with a wrong checksum in its tunnel header"
    TunnelProtocol "tunnel_protocol" "tunnel header that says that no Ethernet frame follows"
    TunnelInnerTruncated "tunnel_inner_truncated" "tunnel packet whose inner frame is shorter than an Ethernet header"
    VxlanNoVniFlag "vxlan_no_vni_flag" "VXLAN header without the I flag: it names no VNI"
    GeneveVersion "geneve_version" "Geneve header of another version than 0"
    GeneveOptions "geneve_options" "Geneve header with an option that goes beyond the end of the options"
    GeneveCritical "geneve_critical" "Geneve header with a critical option that is not known here; RFC 8926 has such packets dropped"
    GreFlags "gre_flags" "GRE header with a version, routing or other bits that RFC 2784 has done away with"
    TunnelUnknown "tunnel_unknown" "no tunnel port takes this VNI or key from this remote; compare in_key, remote_ip and local_ip with what vxctl drops shows"
    TunnelRemoteUnknown "tunnel_remote_unknown" "a tunnel port has this VNI or key, but not this remote: neither remote_ip nor a route of EVPN names the VTEP; see what vxctl drops shows"
    EcnNotCapable "ecn_not_capable" "outer header says congestion, inner transport cannot hear it (RFC 6040)"

    // The way to a decision.
    UpcallQueueFull "upcall_queue_full" "the slow path did not keep up with new flows"
    HoldFull "hold_full" "too many packets waiting for decisions or neighbours"

    // The decision.
    Rule "rule" "a rule says drop, or its actions send the packet nowhere"
    NoMatch "no_match" "no rule matched in a bridge with fail_mode=secure"
    VlanIngress "vlan_ingress" "the input port does not carry the packet's VLAN"
    ReservedMulticast "reserved_multicast" "802.1D reserved group address, which bridges do not forward"
    SourceMulticast "source_multicast" "source address is a group address"
    SamePort "same_port" "the destination is behind the port that the packet came from"
    NoFloodPort "no_flood_port" "no other port to flood to"
    SplitHorizon "split_horizon" "from one tunnel, and only other tunnels to go to"
    LocalUnhandled "local_unhandled" "for the bridge's own address, but nothing here takes it"
    NotInBridge "not_in_bridge" "the input port belongs to no bridge"
    NoBridgePort "no_bridge_port" "the rule's output port does not exist"
    VniUnmapped "vni_unmapped" "the tunnel port's vlan-vni has no VNI for this VLAN, or no VLAN for this VNI"
    InnerVlan "inner_vlan" "tunnel packet with a VLAN tag inside, for a port whose vlan-vni says the VLAN (RFC 7348, section 6.1)"
    TunnelKeyUnset "tunnel_key_unset" "the tunnel port has out_key=flow and no action set tun_id"
    TunnelRemoteUnset "tunnel_remote_unset" "the tunnel port has remote_ip=flow and no action set tun_dst"
    TunnelLocalUnset "tunnel_local_unset" "the tunnel port has local_ip=flow and no action set tun_src"
    Meter "meter" "a meter had no tokens left"
    TunnelEcho "tunnel_echo" "tunnel packet to a multicast group that this switch has sent itself: something sends it back"
    MirrorPort "mirror_port" "came in by a port that carries a mirror's copies and nothing else"
    NoTunnelNextHop "no_tunnel_next_hop" "too many tunnel remotes are in use that rules chose"
    NoBucket "no_bucket" "the group has no live bucket, or does not exist"
    PatchPeer "patch_peer" "the patch port's peer does not exist, or does not name it as its own peer"
    NoRoute "no_route" "no route to the tunnel's remote_ip"
    RecursionLimit "recursion_limit" "rules resubmit deeper than 64 levels, or tunnels lie in each other deeper than 8"

    // The way out.
    NeighbourPending "neighbour_pending" "too many packets waiting for this neighbour"
    NeighbourFailed "neighbour_failed" "the next hop to the tunnel's remote did not answer ARP or neighbour discovery"
    MtuExceeded "mtu_exceeded" "frame longer than the output port's MTU; mind that VXLAN and Geneve add 50 bytes, 70 over IPv6"
    Internal "internal_error" "something inside the switch was not as it must be, and the packet was not sent another way; please report it"
    Offload "offload" "a checksum or a segmentation that was left to the device does not fit the packet: it cannot be completed"
    Headroom "headroom" "no room in front of the packet for the tunnel header"
    NoMbuf "no_mbuf" "mempool empty when a copy was needed; raise mbufs"
    PortGone "port_gone" "the output port was removed"
    PortDown "port_down" "the input or output port was set down, or not to receive or forward (mod-port)"
    LinkDown "link_down" "the output port's link is down"
    FlowRestoreWait "flow_restore_wait" "rules are being restored: other_config:flow-restore-wait of the database"
    TxFull "tx_full" "the device took no more packets"
    VirtioBuffers "virtio_buffers" "for a virtual machine whose buffers are all shorter than the packet, or whose driver has not negotiated what the packet needs"
    HandoverFull "handover_full" "the worker that owns the TX queue did not keep up"
    TtlExceeded "ttl_exceeded" "dec_ttl found a TTL of 0 or 1"
    Shutdown "shutdown" "still waiting when the switch stopped"
}

impl From<OuterError> for DropReason {
    fn from(error: OuterError) -> DropReason {
        match error {
            OuterError::Transport => DropReason::TunnelTransport,
            OuterError::Ipv4Header => DropReason::TunnelIpv4Header,
            OuterError::Ipv4Checksum => DropReason::TunnelIpv4Checksum,
            OuterError::Ipv4Length => DropReason::TunnelIpv4Length,
            OuterError::Ipv6Header => DropReason::TunnelIpv6Header,
            OuterError::Ipv6Length => DropReason::TunnelIpv6Length,
            OuterError::Fragment => DropReason::TunnelFragment,
            OuterError::UdpLength => DropReason::TunnelUdpLength,
            OuterError::UdpChecksum => DropReason::TunnelUdpChecksum,
            OuterError::UdpZeroChecksumV6 => DropReason::TunnelUdp6ZeroChecksum,
            OuterError::Truncated => DropReason::TunnelTruncated,
            OuterError::Checksum => DropReason::TunnelChecksum,
            OuterError::Protocol => DropReason::TunnelProtocol,
            OuterError::InnerTruncated => DropReason::TunnelInnerTruncated,
            OuterError::VxlanNoVniFlag => DropReason::VxlanNoVniFlag,
            OuterError::GeneveVersion => DropReason::GeneveVersion,
            OuterError::GeneveOptions => DropReason::GeneveOptions,
            OuterError::GeneveCritical => DropReason::GeneveCritical,
            OuterError::GreFlags => DropReason::GreFlags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn outer_errors_keep_their_names() {
        for error in OuterError::ALL {
            assert_eq!(DropReason::from(error).name(), error.name());
        }
    }

    #[test]
    fn numbers_and_names_are_unique_and_dense() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
            assert!(!reason.description().is_empty());
        }
    }
}
