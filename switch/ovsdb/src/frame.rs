//! Where a JSON value ends in a stream of bytes: JSON-RPC puts nothing between its messages.

/// Longest message that is taken, bytes: the monitored part of the largest databases is far below.
pub const MAX_MESSAGE: usize = 256 << 20;

/// The stream is not JSON-RPC, or a message is too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message that does not begin as an object.
    #[error("expected a JSON object, found byte {0:#04x}")]
    NoObject(u8),
    /// A message beyond [`MAX_MESSAGE`].
    #[error("a message of more than {MAX_MESSAGE} bytes")]
    TooLong,
}

/// Cuts a stream into JSON objects. Each byte is looked at once.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Bytes looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Frames {
    /// More of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole object.
    ///
    /// # Errors
    /// The stream is broken from here on.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(byte) = self.bytes.get(self.seen).copied() {
            self.seen += 1;
            if self.depth == 0 {
                match byte {
                    b'{' => self.depth = 1,
                    b' ' | b'\t' | b'\r' | b'\n' if self.seen == 1 => {
                        self.bytes.remove(0);
                        self.seen = 0;
                    }
                    _ => return Err(FrameError::NoObject(byte)),
                }
                continue;
            }
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            if self.depth == 0 {
                let rest = self.bytes.split_off(self.seen);
                self.seen = 0;
                return Ok(Some(std::mem::replace(&mut self.bytes, rest)));
            }
        }
        if self.bytes.len() > MAX_MESSAGE { Err(FrameError::TooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn objects_come_out_however_the_stream_is_cut(
            texts in prop::collection::vec("[\\PC\\\\\"{}\\[\\]]{0,20}", 1..6),
            cuts in prop::collection::vec(1usize..9, 1..40),
        ) {
            let objects: Vec<String> =
                texts.iter().map(|text| serde_json::json!({ "a": [text, { text: [] }] }).to_string()).collect();
            let stream = objects.join("").into_bytes();
            let (mut frames, mut out, mut rest) = (Frames::default(), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                frames.push(now);
                while let Some(object) = frames.next().unwrap() {
                    out.push(String::from_utf8(object).unwrap());
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(out, objects);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let mut frames = Frames::default();
        frames.push(b" \n{}\n5");
        assert_eq!(frames.next(), Ok(Some(b"{}".to_vec())));
        assert_eq!(frames.next(), Err(FrameError::NoObject(b'5')));
    }
}
