//! What is known of the packets of a list of actions.

use flow::ofp::{Field, Match, Prerequisite};

/// What the packets of a list of actions are known to be, where the form of an action depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// They have a VLAN tag.
    pub(super) tagged: bool,
    /// What they carry, if that is one of these.
    transport: Option<Transport>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Tcp,
    Udp,
    Sctp,
}

impl Context {
    /// Of packets that match.
    pub fn of(what: &Match) -> Context {
        Context {
            tagged: Prerequisite::Vlan.is_met(what),
            transport: if Prerequisite::Udp.is_met(what) {
                Some(Transport::Udp)
            } else if Prerequisite::Sctp.is_met(what) {
                Some(Transport::Sctp)
            } else {
                Prerequisite::Tcp.is_met(what).then_some(Transport::Tcp)
            },
        }
    }

    /// The field of a protocol in place of one of any.
    pub(super) fn transport_field(self, field: Field) -> Field {
        let (src, dst) = match self.transport {
            Some(Transport::Tcp) => (Field::TcpSrc, Field::TcpDst),
            Some(Transport::Udp) => (Field::UdpSrc, Field::UdpDst),
            Some(Transport::Sctp) => (Field::SctpSrc, Field::SctpDst),
            None => return field,
        };
        match field {
            Field::TpSrc => src,
            Field::TpDst => dst,
            field => field,
        }
    }
}
