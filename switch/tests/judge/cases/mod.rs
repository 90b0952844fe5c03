//! The cases, by what they are about.

mod combinations;
mod extensions;
mod matches_ip;
mod matches_l2;
mod matches_l4;
mod matches_tunnel;
mod normal;
mod outputs;
mod set_fields;
mod tunnel_types;
mod tunnels;
mod underlay;
mod vlans;

use crate::case::Case;

/// All of them.
pub fn all() -> Vec<Case> {
    [
        matches_l2::cases,
        matches_ip::cases,
        matches_l4::cases,
        matches_tunnel::cases,
        set_fields::cases,
        vlans::cases,
        outputs::cases,
        normal::cases,
        tunnels::cases,
        tunnel_types::cases,
        underlay::cases,
        combinations::cases,
        extensions::cases,
    ]
    .iter()
    .flat_map(|cases| cases())
    .collect()
}
