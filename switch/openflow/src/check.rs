//! What a list of actions must fulfil beyond being readable: the same that the rule language asks of text.

use crate::error::{Code, Error};
use flow::ofp::{
    Action, BUCKET_MAX, Field, GROUP_MAX, GroupKind, GroupSpec, LearnTarget, Match, PORT_LOCAL, PORT_MAX,
    Prerequisite, Subfield, in_action_set,
};
use flow::program::Select;
use wire::key::VLAN_PRESENT;

/// Checks the actions of a flow of `table` with `matches`: fields need what they need, can be set, tables go up, a
/// meter comes first.
pub fn flow_actions(actions: &[Action], matches: &Match, table: u8) -> Result<(), Error> {
    Checker { known: *matches, table: Some(table) }.list(actions, 0)
}

/// Checks the actions of a bucket or a packet-out: as a flow's, but for instructions, which there are none.
pub fn free_actions(actions: &[Action]) -> Result<(), Error> {
    Checker { known: Match::ANY, table: None }.list(actions, 0)
}

/// Checks a group: what its type has, its buckets' numbers and their actions.
pub fn group(group: &GroupSpec) -> Result<(), Error> {
    let error = |code, why: &str| Err(Error::new(code, format!("group {}: {why}", group.id)));
    let buckets = &group.buckets;
    match group.kind {
        GroupKind::Indirect if buckets.len() != 1 => {
            return error(Code::OfpgmfcInvalidGroup, "one bucket in a group of type indirect");
        }
        GroupKind::Select if buckets.len() > Select::SLOTS => {
            return error(Code::OfpgmfcOutOfBuckets, "too many buckets for a group of type select");
        }
        _ => {}
    }
    for bucket in buckets {
        let watches = bucket.watch_port.is_some() || bucket.watch_group.is_some();
        match group.kind {
            GroupKind::FastFailover if !watches => {
                return error(Code::OfpgmfcInvalidGroup, "a bucket that watches nothing");
            }
            GroupKind::All | GroupKind::Indirect if watches => {
                let why = "watch_port and watch_group are for groups of type ff and select";
                return error(Code::OfpgmfcWatchUnsupported, why);
            }
            _ => {}
        }
        if bucket.weight != 0 && group.kind != GroupKind::Select {
            return error(Code::OfpgmfcInvalidGroup, "weights are for groups of type select");
        }
        if bucket.watch_port.is_some_and(|port| port > PORT_MAX && port != PORT_LOCAL) {
            return error(Code::OfpgmfcBadWatch, "what is watched is a port of the switch");
        }
        if bucket.watch_group.is_some_and(|id| id > GROUP_MAX) {
            return error(Code::OfpgmfcBadWatch, "what is watched is a group up to 0xffffff00");
        }
        if bucket.id > BUCKET_MAX {
            return error(Code::OfpgmfcBadBucket, "a bucket_id above 0xffffff00");
        }
        free_actions(&bucket.actions)?;
    }
    let mut ids: Vec<u32> = buckets.iter().map(|bucket| bucket.id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return error(Code::OfpgmfcBucketExists, "a bucket_id twice");
    }
    Ok(())
}

struct Checker {
    /// What every packet has that gets here.
    known: Match,
    /// The flow's table; `None` outside of flows.
    table: Option<u8>,
}

impl Checker {
    fn list(&mut self, actions: &[Action], depth: usize) -> Result<(), Error> {
        let is_part = |action: &Action| matches!(action, Action::Conjunction(_));
        if actions.iter().any(is_part)
            && !actions.iter().all(|action| is_part(action) || matches!(action, Action::Note(_)))
        {
            let why = "conjunction beside other actions than note";
            return Err(Error::new(Code::NxbacBadConjunction, why));
        }
        for (at, action) in actions.iter().enumerate() {
            match action {
                Action::GotoTable(to) => match self.table {
                    Some(table) if depth == 0 && at + 1 == actions.len() && *to > table => {}
                    Some(_) => {
                        let why = format!("goto_table:{to} in a flow of table {:?}", self.table);
                        return Err(Error::new(Code::OfpbicBadTableId, why));
                    }
                    None => return Err(Error::new(Code::OfpbicUnsupInst, "goto_table outside of a flow")),
                },
                Action::Meter(id) if at > 0 || depth > 0 || self.table.is_none() => {
                    let why = format!("meter:{id} behind other actions");
                    return Err(Error::new(Code::OfpbacUnsupportedOrder, why));
                }
                Action::Group(id) if *id > GROUP_MAX => {
                    return Err(Error::new(Code::OfpbacBadOutGroup, format!("group:{id:#x}")));
                }
                Action::Meter(0) => return Err(Error::new(Code::OfpmmfcInvalidMeter, "meter:0")),
                Action::SetTunnel(key) if *key > u32::MAX.into() => {
                    return Err(Error::new(
                        Code::OfpbacBadArgument,
                        format!("tunnel key {key:#x} is over 32 bits"),
                    ));
                }
                Action::SetField { field, value, mask } => {
                    // OpenFlow 1.0's actions leave packets without the field alone; so does set_field of these.
                    let lenient = is_legacy(*field) && *mask == field.info().exact();
                    self.writable(*field, lenient)?;
                    tunnel_key(*field, *value)?;
                    self.learn(*field, *value, *mask);
                }
                Action::Load { value, to } => {
                    self.writable(to.field, false)?;
                    tunnel_key(to.field, u128::from(*value) << to.start)?;
                    self.learn(to.field, u128::from(*value) << to.start, to.max() << to.start);
                }
                Action::Move { from, to } => {
                    self.require(from.field)?;
                    self.writable(to.field, false)?;
                    self.forget(*to);
                }
                Action::OutputField(from) | Action::Push(from) => self.require(from.field)?,
                Action::PushVlan(_) | Action::ModVlanVid(_) | Action::ModVlanPcp(_) => {
                    self.vlan(VLAN_PRESENT, VLAN_PRESENT);
                }
                Action::PopVlan => self.vlan(0, 0),
                Action::Pop(to) | Action::CheckPktLarger { to, .. } => {
                    self.writable(to.field, false)?;
                    self.forget(*to);
                }
                Action::Multipath(multipath) => {
                    self.writable(multipath.to.field, false)?;
                    self.forget(multipath.to);
                }
                Action::Learn(learn) => {
                    learn.check(&self.known).map_err(|(field, needed)| {
                        let why = format!("learn: {} needs {}", field.name(), needed.needs());
                        Error::new(Code::OfpbacMatchInconsistent, why)
                    })?;
                    if let Some(to) = learn.result_dst {
                        self.writable(to.field, false)?;
                        self.forget(to);
                    }
                    for (_, to) in &learn.specs {
                        if let LearnTarget::Load(to) = to
                            && !to.field.info().writable
                        {
                            let why = format!("learn: {} cannot be set", to.field.name());
                            return Err(Error::new(Code::OfpbacBadSetArgument, why));
                        }
                    }
                }
                Action::FinTimeout { .. } if !Prerequisite::Tcp.is_met(&self.known) => {
                    let why = format!("fin_timeout needs {}", Prerequisite::Tcp.needs());
                    return Err(Error::new(Code::OfpbacMatchInconsistent, why));
                }
                Action::WriteActions(set) => {
                    if let Some(other) = set.iter().find(|action| !in_action_set(action)) {
                        let why = format!("{other:?} in an action set");
                        return Err(Error::new(Code::OfpbacBadType, why));
                    }
                    let before = self.known;
                    self.list(set, depth + 1)?;
                    self.known = before;
                }
                Action::Clone(inner) => {
                    let before = self.known;
                    self.list(inner, depth + 1)?;
                    self.known = before;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn vlan(&mut self, tci: u16, bits: u16) {
        let (mut key, mut mask) = (*self.known.key(), *self.known.mask());
        (key.flow.vlan_tci, mask.flow.vlan_tci) = (tci.into(), bits.into());
        self.known = Match::new(&key, &mask);
    }

    fn learn(&mut self, field: Field, value: u128, mask: u128) {
        let (mut key, mut known) = (*self.known.key(), *self.known.mask());
        field.set_masked(&mut key, value, mask);
        field.set_masked(&mut known, mask, mask);
        self.known = Match::new(&key, &known);
    }

    fn forget(&mut self, bits: Subfield) {
        let (key, mut known) = (*self.known.key(), *self.known.mask());
        bits.set(&mut known, 0);
        self.known = Match::new(&key, &known);
    }

    fn require(&self, field: Field) -> Result<(), Error> {
        let needed = field.info().prerequisite;
        if needed.is_met(&self.known) {
            return Ok(());
        }
        let why = format!("{} needs {}", field.name(), needed.needs());
        Err(Error::new(Code::OfpbacMatchInconsistent, why))
    }

    fn writable(&self, field: Field, lenient: bool) -> Result<(), Error> {
        if !field.info().writable {
            return Err(Error::new(Code::OfpbacBadSetArgument, format!("{} cannot be set", field.name())));
        }
        if lenient { Ok(()) } else { self.require(field) }
    }
}

/// Refuses a `tun_id` that is longer than the keys of tunnels.
fn tunnel_key(field: Field, value: u128) -> Result<(), Error> {
    if field == Field::TunId && value > u32::MAX.into() {
        let why = format!("tunnel key {value:#x} is over 32 bits");
        return Err(Error::new(Code::OfpbacBadSetArgument, why));
    }
    Ok(())
}

/// The fields that OpenFlow 1.0 has actions for.
fn is_legacy(field: Field) -> bool {
    matches!(
        field,
        Field::IpSrc
            | Field::IpDst
            | Field::NwTos
            | Field::NwEcn
            | Field::NwTtl
            | Field::TpSrc
            | Field::TpDst
            | Field::TcpSrc
            | Field::TcpDst
            | Field::UdpSrc
            | Field::UdpDst
            | Field::SctpSrc
            | Field::SctpDst
    )
}
