//! What the daemon prints on stdout: what was decided at the start, a line each, as testpmd does.

/// Writes a line of what was decided. Nobody may be reading it any more, which is no reason to stop.
pub(super) fn line(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a line of what was decided.
macro_rules! say {
    ($($arg:tt)*) => { $crate::control::say::line(format_args!($($arg)*)) };
}
pub(super) use say;
