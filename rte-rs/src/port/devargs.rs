//! What may be given to DPDK as device arguments: it crashes on some texts, and understands others in surprising ways.

use crate::error::Error;

/// Longest name of a device, in bytes (`RTE_DEV_NAME_MAX_LEN` - 1).
const MAX_NAME: usize = 63;

/// Whether `devargs` is one device's name and, after commas, its arguments. `class=eth` and the like, DPDK's "global
/// syntax", is taken anywhere between slashes, and what it cannot match is a null pointer that DPDK follows.
///
/// # Errors
/// [`Error::Devargs`].
pub(super) fn check(devargs: &str) -> Result<(), Error> {
    let bad = |reason| Err(Error::Devargs { devargs: devargs.to_owned(), reason });
    let (name, arguments) = devargs.split_once(',').unwrap_or((devargs, ""));
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '@');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(in_name) {
        return bad(
            "expected the name of a device, such as 0000:03:00.0 or net_tap0, and its arguments after commas",
        );
    }
    let layer = |text: &str| ["bus=", "class=", "driver="].iter().any(|key| text.starts_with(key));
    if devargs.split('/').any(layer) || arguments.split(',').any(layer) {
        return bad("bus=, class= and driver= name no device here: expected its name first");
    }
    if arguments.split(',').any(|argument| argument.starts_with('=')) {
        return bad("an argument has no name");
    }
    if devargs.chars().any(char::is_control) {
        return bad("control characters");
    }
    Ok(())
}
