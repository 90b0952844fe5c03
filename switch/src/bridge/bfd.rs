//! Which packets of a port are its BFD session's.

use super::PortBfd;
use super::translate::Translator;
use wire::addr::MacAddr;
use wire::key::{FRAG_ANY, FlowMask};
use wire::proto::{ETH_IPV4, IP_UDP};
use wire::view::BfdControl;

impl Translator<'_> {
    /// Whether the packet is one, as Open vSwitch tells: UDP port 3784 over IPv4. Looks at no more than that needs, so that
    /// ordinary packets have a bit of their UDP port more in their masks, or nothing.
    pub(super) fn is_bfd(&mut self, bfd: &PortBfd) -> bool {
        if let Some(mac) = bfd.remote_dst_mac {
            self.look_flow(&FlowMask { dl_dst: MacAddr::BROADCAST, ..FlowMask::ZERO });
            if self.at.key.flow.dl_dst != mac {
                return false;
            }
        }
        self.look_flow(&FlowMask { dl_type: u16::MAX.into(), ..FlowMask::ZERO });
        let key = self.at.key.flow;
        if key.dl_type.get() != ETH_IPV4 {
            return false;
        }
        self.look_flow(&FlowMask { nw_proto: u8::MAX, ..FlowMask::ZERO });
        if key.nw_proto != IP_UDP {
            return false;
        }
        self.look_flow(&FlowMask { nw_frag: FRAG_ANY, ..FlowMask::ZERO });
        if key.nw_frag & FRAG_ANY != 0 || !self.is_port(key.tp_dst.get(), BfdControl::PORT, false) {
            return false;
        }
        if bfd.check_tnl_key {
            self.look_flow(&FlowMask { tun_id: u32::MAX, ..FlowMask::ZERO });
            return key.tun_id == 0;
        }
        true
    }
}
