//! Stage 2, **parse**: whose packet it is, and what is in it.
//!
//! Two readers. [`outer`] reads outer headers: on a port whose bridge has the VTEP's addresses it finds the tunnel packets
//! for us and the tunnel port of each. [`inner`] reads the frames that lookups and programs look at: a hot key for ordinary
//! ones, a whole key for the others. Each hides three forms of the same reading, the cheapest first, which agree on every
//! packet:
//!
//! - *same header*: the packet differs from the first of its burst in nothing but addresses, ports and lengths;
//! - *fast path*: an ordinary packet, read in one go with one branch;
//! - *general path*: everything else, right or wrong.

pub(crate) mod inner;
pub(crate) mod outer;
