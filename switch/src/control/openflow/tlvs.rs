//! `ovs-ofctl add-tlv-map` and `del-tlv-map`: changes of the TLV map, which stands in the document.

use crate::control::app::App;
use config::TlvEntry;
use openflow::{Code, Error, TlvMap, TlvTableMod};
use wire::tunnel::geneve::TlvError;

/// Makes a change of a bridge's TLV map.
///
/// # Errors
/// Why not; the map is as it was.
pub(super) async fn change(app: &App, bridge: &str, asked: &TlvTableMod) -> Result<(), Error> {
    const ADD: u16 = 0;
    const DELETE: u16 = 1;
    const CLEAR: u16 = 2;
    let mut switch = app.desired().await;
    let mut document = switch.document.clone();
    let gone = || Error::new(Code::OfpbrcEperm, "the bridge is gone");
    let edited = document.bridge_mut(bridge).ok_or_else(gone)?;
    match asked.command {
        ADD => {
            let mut map = edited.tlvs();
            for new in &asked.maps {
                let entry = entry(*new)?;
                entry.add_to(&mut map).map_err(|error| Error::new(code(error), error.to_string()))?;
                edited.tlv_map.push(entry.to_string());
            }
        }
        DELETE => {
            for old in &asked.maps {
                let entry = entry(*old)?;
                edited.tlv_map.retain(|text| TlvEntry::parse(text).as_ref() != Ok(&entry));
            }
        }
        CLEAR => edited.tlv_map.clear(),
        command => return Err(Error::new(Code::NxttmfcBadCommand, format!("command {command}"))),
    }
    // Rules name a field that would go.
    let refused = |error: &dyn std::fmt::Display| Error::new(Code::NxttmfcInvalidTlvDel, error.to_string());
    switch.change(document).await.map_err(|error| refused(&error))?;
    drop(switch);
    if let Err(error) = app.persist().await {
        tracing::error!(%error, "what OpenFlow changed is not kept");
    }
    Ok(())
}

fn entry(map: TlvMap) -> Result<TlvEntry, Error> {
    let TlvMap { class, kind, length, index } = map;
    let field =
        u8::try_from(index).map_err(|_| Error::new(code(TlvError::Field), format!("field {index}")))?;
    Ok(TlvEntry { class, kind, len: length, field })
}

fn code(error: TlvError) -> Code {
    match error {
        TlvError::Field => Code::NxttmfcBadFieldIdx,
        TlvError::Len => Code::NxttmfcBadOptLen,
        TlvError::FieldTaken(_) => Code::NxttmfcAlreadyMapped,
        TlvError::OptionTaken(_) => Code::NxttmfcDupEntry,
        TlvError::Full => Code::NxttmfcTableFull,
    }
}
