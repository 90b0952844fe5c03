//! One description of a layout that both reads and writes it.
//!
//! A body's `code` function names its parts in wire order. Run with a [`Reader`] it fills the body in from bytes, run
//! with a [`Writer`] it makes bytes of it, so the two directions cannot differ.

use crate::error::{Code, Error};
use crate::{Dialect, Version};

/// What every step of a layout returns.
pub type Step = Result<(), Error>;

/// A length field whose content comes later in the message.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

/// Reads or writes the parts of a message, in order. Numbers are big-endian.
pub trait Coder: Sized {
    /// Whether parts are filled in from bytes.
    const READS: bool;

    /// What the two sides agreed on.
    fn dialect(&self) -> &Dialect;

    /// So many bytes.
    fn fixed(&mut self, bytes: &mut [u8]) -> Step;

    /// Bytes up to the end of what encloses them.
    fn rest(&mut self, bytes: &mut Vec<u8>) -> Step;

    /// Bytes that mean nothing: skipped, or written as zeros.
    fn pad(&mut self, length: usize) -> Step;

    /// Place in the message.
    fn offset(&self) -> usize;

    /// Whether there is more to read, respectively to write. `write` is the writer's answer.
    fn more(&self, write: bool) -> bool;

    /// A 16-bit length whose content comes later: see [`counted_from`](Self::counted_from).
    fn length16(&mut self) -> Result<Mark, Error>;

    /// Content that ends where a length field says, counted from `start`.
    fn counted_from(&mut self, start: usize, mark: Mark, content: impl FnOnce(&mut Self) -> Step) -> Step;

    /// Content inside of content of the same kind: not deeper than a stack holds.
    fn nested(&mut self, content: impl FnOnce(&mut Self) -> Step) -> Step {
        content(self)
    }

    /// The entries of a multipart reply: a writer begins a new part where one is full.
    fn entries<T: Default>(
        &mut self,
        list: &mut Vec<T>,
        each: impl FnMut(&mut Self, &mut T) -> Step,
    ) -> Step {
        self.list(list, each)
    }

    /// Content that ends where a length field says, counted from here.
    fn counted(&mut self, mark: Mark, content: impl FnOnce(&mut Self) -> Step) -> Step {
        self.counted_from(self.offset(), mark, content)
    }

    /// Version of the protocol.
    fn version(&self) -> Version {
        self.dialect().version
    }

    /// A number.
    fn u8(&mut self, value: &mut u8) -> Step {
        let mut bytes = [*value];
        self.fixed(&mut bytes)?;
        *value = bytes[0];
        Ok(())
    }

    /// A number.
    fn u16(&mut self, value: &mut u16) -> Step {
        let mut bytes = value.to_be_bytes();
        self.fixed(&mut bytes)?;
        *value = u16::from_be_bytes(bytes);
        Ok(())
    }

    /// A number.
    fn u32(&mut self, value: &mut u32) -> Step {
        let mut bytes = value.to_be_bytes();
        self.fixed(&mut bytes)?;
        *value = u32::from_be_bytes(bytes);
        Ok(())
    }

    /// A number.
    fn u64(&mut self, value: &mut u64) -> Step {
        let mut bytes = value.to_be_bytes();
        self.fixed(&mut bytes)?;
        *value = u64::from_be_bytes(bytes);
        Ok(())
    }

    /// The low `length` bytes of a number.
    fn bits(&mut self, value: &mut u128, length: usize) -> Step {
        let mut bytes = value.to_be_bytes();
        let Some(low) = bytes.len().checked_sub(length) else {
            return Err(Error::new(Code::OfpbmcBadLen, "a field has at most 16 bytes"));
        };
        self.fixed(&mut bytes[low..])?;
        *value = u128::from_be_bytes(bytes) & (u128::MAX >> (128 - 8 * length.max(1)));
        Ok(())
    }

    /// A number that is always the same; what is read is not looked at.
    fn constant16(&mut self, value: u16) -> Step {
        self.u16(&mut { value })
    }

    /// Text in `length` bytes, filled up with zeros, cut to fit with a zero behind it. What is read and is no UTF-8 is a
    /// question mark a byte.
    fn text(&mut self, text: &mut String, length: usize) -> Step {
        let mut bytes = vec![0; length];
        let used = text.floor_char_boundary(length - 1);
        bytes[..used].copy_from_slice(&text.as_bytes()[..used]);
        self.fixed(&mut bytes)?;
        if Self::READS {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(length).min(length - 1);
            text.clear();
            for chunk in bytes[..end].utf8_chunks() {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|_| '?'));
            }
        }
        Ok(())
    }

    /// Elements up to the end of what encloses them.
    fn list<T: Default>(
        &mut self,
        list: &mut Vec<T>,
        mut each: impl FnMut(&mut Self, &mut T) -> Step,
    ) -> Step {
        if !Self::READS {
            return list.iter_mut().try_for_each(|element| each(self, element));
        }
        while self.more(false) {
            let before = self.offset();
            let mut element = T::default();
            each(self, &mut element)?;
            if self.offset() == before {
                return Err(Error::new(Code::OfpbrcBadLen, "an element of a list has at least one byte"));
            }
            list.push(element);
        }
        Ok(())
    }

    /// Zeros up to a multiple of eight bytes from `start`.
    fn align(&mut self, start: usize) -> Step {
        let length = self.offset() - start;
        self.pad(length.next_multiple_of(8) - length)
    }

    /// A port: 16 bits in OpenFlow 1.0, 32 later, where the reserved ones begin at 0xffffff00. The model has them
    /// in 16 bits.
    fn port(&mut self, port: &mut u32) -> Step {
        if self.version() == Version::V10 {
            let mut short = *port as u16;
            self.u16(&mut short)?;
            *port = short.into();
            return Ok(());
        }
        let mut wide = if *port >= PORT_RESERVED { *port | 0xffff_0000 } else { *port };
        self.u32(&mut wide)?;
        *port = match wide {
            0..PORT_RESERVED => wide,
            0xffff_ff00.. => wide & 0xffff,
            _ => {
                return Err(Error::new(
                    Code::OfpbacBadOutPort,
                    "ports are below 0xff00 or from 0xffffff00 on",
                ));
            }
        };
        Ok(())
    }

    /// A port, or the number that stands for any.
    fn any_port(&mut self, port: &mut Option<u32>) -> Step {
        let mut number = port.unwrap_or(PORT_NONE);
        self.port(&mut number)?;
        *port = (number != PORT_NONE).then_some(number);
        Ok(())
    }

    /// A group, or `OFPG_ANY`.
    fn any_group(&mut self, group: &mut Option<u32>) -> Step {
        let mut number = group.unwrap_or(u32::MAX);
        self.u32(&mut number)?;
        *group = (number != u32::MAX).then_some(number);
        Ok(())
    }

    /// A table, or 255 for all.
    fn any_table(&mut self, table: &mut Option<u8>) -> Step {
        let mut number = table.unwrap_or(u8::MAX);
        self.u8(&mut number)?;
        *table = (number != u8::MAX).then_some(number);
        Ok(())
    }

    /// Seconds and nanoseconds.
    fn duration(&mut self, duration: &mut std::time::Duration) -> Step {
        let (mut seconds, mut nanos) = (duration.as_secs() as u32, duration.subsec_nanos());
        self.u32(&mut seconds)?;
        self.u32(&mut nanos)?;
        *duration = std::time::Duration::new(seconds.into(), nanos.min(999_999_999));
        Ok(())
    }
}

/// `OFPP_NONE` of OpenFlow 1.0, `OFPP_ANY` later.
pub const PORT_NONE: u32 = 0xffff;
/// The first reserved port in 16 bits.
const PORT_RESERVED: u32 = 0xff00;

/// Reads a message.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    depth: usize,
    dialect: Dialect,
}

/// How deep actions may nest, as in the rule language.
const MAX_DEPTH: usize = 16;

impl<'a> Reader<'a> {
    /// Reads `bytes` from `at` on.
    pub fn new(bytes: &'a [u8], at: usize, dialect: &Dialect) -> Reader<'a> {
        Reader { bytes, at, end: bytes.len(), depth: 0, dialect: *dialect }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        if length > self.end - self.at {
            return Err(Error::new(Code::OfpbrcBadLen, "the message, or a part of it, ends too early"));
        }
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(bytes)
    }

    /// Refuses bytes that nothing has read.
    pub fn finish(&self) -> Step {
        if self.at == self.end {
            Ok(())
        } else {
            Err(Error::new(Code::OfpbrcBadLen, "bytes follow the end of the message's content"))
        }
    }
}

impl Coder for Reader<'_> {
    const READS: bool = true;

    fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    fn fixed(&mut self, bytes: &mut [u8]) -> Step {
        let read = self.take(bytes.len())?;
        bytes.copy_from_slice(read);
        Ok(())
    }

    fn rest(&mut self, bytes: &mut Vec<u8>) -> Step {
        *bytes = self.take(self.end - self.at)?.to_vec();
        Ok(())
    }

    fn pad(&mut self, length: usize) -> Step {
        self.take(length).map(drop)
    }

    fn offset(&self) -> usize {
        self.at
    }

    fn more(&self, _write: bool) -> bool {
        self.at < self.end
    }

    fn nested(&mut self, content: impl FnOnce(&mut Self) -> Step) -> Step {
        if self.depth == MAX_DEPTH {
            return Err(Error::new(Code::OfpbacTooMany, "actions nest too deep"));
        }
        self.depth += 1;
        content(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn length16(&mut self) -> Result<Mark, Error> {
        let mut length = 0;
        self.u16(&mut length)?;
        Ok(Mark(length.into()))
    }

    fn counted_from(&mut self, start: usize, mark: Mark, content: impl FnOnce(&mut Self) -> Step) -> Step {
        let (end, outer) = (start + mark.0, self.end);
        if end < self.at || end > outer {
            return Err(Error::new(Code::OfpbrcBadLen, "a length does not fit what it measures"));
        }
        self.end = end;
        content(self)?;
        self.finish()?;
        self.end = outer;
        Ok(())
    }
}

/// Makes messages: one, or the parts of a multipart reply.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    /// Where the message begins that is being written.
    start: usize,
    dialect: Dialect,
}

/// A part of a multipart reply is ended before it gets longer than this.
const PART: usize = 0xf000;

impl Writer {
    /// Begins a message with these first bytes behind what `out` has.
    pub fn new(mut out: Vec<u8>, header: &[u8], dialect: &Dialect) -> Writer {
        let start = out.len();
        out.extend_from_slice(header);
        Writer { out, start, dialect: *dialect }
    }

    /// Ends the message.
    pub fn finish(mut self) -> Result<Vec<u8>, Error> {
        let length = self.out.len() - self.start;
        self.patch(self.start + 2, length)?;
        Ok(self.out)
    }

    /// What has been written, without a length in its header: for content that stands by itself.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn patch(&mut self, at: usize, length: usize) -> Step {
        let Ok(length) = u16::try_from(length) else {
            return Err(Error::new(Code::OfpbrcBadLen, "a message has at most 65535 bytes"));
        };
        self.out[at..at + 2].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

impl Coder for Writer {
    const READS: bool = false;

    fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    fn fixed(&mut self, bytes: &mut [u8]) -> Step {
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn rest(&mut self, bytes: &mut Vec<u8>) -> Step {
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn pad(&mut self, length: usize) -> Step {
        self.out.resize(self.out.len() + length, 0);
        Ok(())
    }

    fn offset(&self) -> usize {
        self.out.len() - self.start
    }

    fn more(&self, write: bool) -> bool {
        write
    }

    fn length16(&mut self) -> Result<Mark, Error> {
        let at = self.offset();
        self.pad(2)?;
        Ok(Mark(at))
    }

    fn counted_from(&mut self, start: usize, mark: Mark, content: impl FnOnce(&mut Self) -> Step) -> Step {
        content(self)?;
        self.patch(self.start + mark.0, self.offset() - start)
    }

    fn entries<T: Default>(
        &mut self,
        list: &mut Vec<T>,
        mut each: impl FnMut(&mut Self, &mut T) -> Step,
    ) -> Step {
        // The bytes of this part that the next one begins with, too.
        let header = self.offset();
        for element in list {
            if self.offset() > PART {
                let next = self.out.len();
                self.out.extend_from_within(self.start..self.start + header);
                let flags = self.start + 11;
                self.patch(self.start + 2, next - self.start)?;
                // OFPSF_REPLY_MORE: there is another part.
                self.out[flags] |= 1;
                self.start = next;
            }
            each(self, element)?;
        }
        Ok(())
    }
}
