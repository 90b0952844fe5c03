//! Messages from controllers and `ovs-ofctl`.

use crate::nothing::Nothing;
use ::openflow::server::Connection;
use ::openflow::{Dialect, FlowCommand, GroupCommand, HEADER, Message, Version, check, decode, encode};
use flow::ofp::{FlowSpec, format_flow, format_group, parse_flow, parse_group};

/// What is understood can be said again, and what asks for a change means the same then; a rule that is accepted can be written as text, so a saved
/// file can be read again; a connection outlives any message.
///
/// The first byte chooses the dialect, the rest is one message, whose length is put right.
pub fn openflow(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let version = Version::all()[usize::from(choice & 3)];
    let dialect = Dialect { nicira: choice & 4 != 0, table_id: choice & 8 != 0, ..Dialect::new(version) };
    let mut bytes = bytes.to_vec();
    if let (Ok(length), true) = (u16::try_from(bytes.len()), bytes.len() >= HEADER) {
        bytes[0] = version.number();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
    if let Ok(decoded) = decode(&bytes, dialect) {
        let form = Dialect { nicira: decoded.nicira, ..dialect };
        let say = |message: &Message| encode(message.clone(), decoded.xid, form, Vec::new());
        if let Ok(said) = say(&decoded.message) {
            let again = decode(&said, form).map(|again| again.message);
            if is_change(&decoded.message) {
                assert_eq!(again.as_ref(), Ok(&decoded.message));
            }
            assert_eq!(again.and_then(|again| say(&again)).as_ref(), Ok(&said));
        }
        has_text(&decoded.message);
    }
    let mut connection = Connection::new(1, &Version::all(), true);
    let mut hello = vec![version.number(), 0, 0, 8, 0, 0, 0, 1];
    connection.input(&mut hello, &mut Nothing);
    let output = connection.input(&mut bytes.clone(), &mut Nothing);
    assert!(output.bytes.len() < 1 << 20);
    for part in output.reply.into_iter().flatten() {
        assert!(part.expect("answers fit their version").len() < 1 << 20);
    }
}

/// What a switch takes can be written to its file and read from it.
fn has_text(message: &Message) {
    match message {
        Message::FlowMod(change) if change.command == FlowCommand::Add => {
            let spec = FlowSpec { check_overlap: false, reset_counts: false, ..change.spec() };
            if check::flow_actions(&spec.actions, &spec.matches, spec.table).is_ok() {
                let line = format_flow(&spec, None, &());
                assert_eq!(parse_flow(&line, &()).as_ref(), Ok(&spec), "{line}");
            }
        }
        Message::GroupMod(change)
            if change.command == GroupCommand::Add
                && change.group.id <= 0xffff_ff00
                && check::group(&change.group).is_ok() =>
        {
            let line = format_group(&change.group, &());
            assert_eq!(parse_group(&line, &()).as_ref(), Ok(&change.group), "{line}");
        }
        _ => {}
    }
}

/// Whether a message asks for a change that can be made.
fn is_change(message: &Message) -> bool {
    match message {
        Message::GroupMod(change) => check::group(&change.group).is_ok(),
        Message::FlowMod(_) | Message::MeterMod(_) | Message::PacketOut(_) => true,
        _ => false,
    }
}
