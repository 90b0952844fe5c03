//! Handlers for the TLV map of a bridge: they edit the document, whose check refuses to take a field from a rule.

use super::refused::{Answer, Refused};
use crate::control::app::App;
use api::{Done, Tlvs};
use axum::Json;
use axum::extract::{Path, State};
use config::{Bridge, Document, TlvEntry};
use std::sync::Arc;

fn bridge_of<'d>(document: &'d mut Document, bridge: &str) -> Result<&'d mut Bridge, Refused> {
    document.bridge_mut(bridge).ok_or_else(|| Refused::not_found(format!("no bridge named {bridge}")))
}

fn read(texts: &[String]) -> Result<Vec<TlvEntry>, Refused> {
    texts.iter().map(|text| TlvEntry::parse(text).map_err(Refused::bad)).collect()
}

pub(in crate::control) async fn dump(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
) -> Answer<Tlvs> {
    let switch = app.switch.lock().await;
    let found = switch.document.bridge(&bridge);
    let found = found.ok_or_else(|| Refused::not_found(format!("no bridge named {bridge}")))?;
    let mut entries = read(&found.tlv_map)?;
    entries.sort_by_key(|entry| entry.field);
    Ok(Json(Tlvs { tlvs: entries.iter().map(ToString::to_string).collect() }))
}

pub(in crate::control) async fn add(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Tlvs>,
) -> Answer<Done> {
    let entries = read(&body.tlvs)?;
    let mut switch = app.desired().await;
    let mut document = switch.document.clone();
    let edited = bridge_of(&mut document, &bridge)?;
    let mut map = edited.tlvs();
    for entry in &entries {
        entry.add_to(&mut map).map_err(|error| Refused::bad(format!("{entry}: {error}")))?;
        edited.tlv_map.push(entry.to_string());
    }
    switch.change(document).await?;
    Ok(Json(Done { changed: entries.len() }))
}

pub(in crate::control) async fn delete(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Tlvs>,
) -> Answer<Done> {
    let entries = read(&body.tlvs)?;
    let mut switch = app.desired().await;
    let mut document = switch.document.clone();
    let edited = bridge_of(&mut document, &bridge)?;
    let before = edited.tlv_map.len();
    edited.tlv_map.retain(|text| {
        let known = TlvEntry::parse(text);
        !entries.is_empty() && !entries.iter().any(|entry| known.as_ref() == Ok(entry))
    });
    let changed = before - edited.tlv_map.len();
    if changed < entries.len() {
        return Err(Refused::not_found(
            "the bridge's TLV map has no such option and field; see dump-tlv-map",
        ));
    }
    switch.change(document).await?;
    Ok(Json(Done { changed }))
}
