//! What a virtual machine sends: the header before a frame, and its rings.

use rte::offload::{TX_REQUESTS, TX_TUNNEL_MASK};
use rte::virtio::header::{Bad, LEN};
use rte::virtio::{Header, MAX_CHAIN, Memory, Received, SplitRing};

/// Descriptors of the ring, and where it and its memory are, by the guest's addresses.
const SIZE: u16 = 16;
const GUEST: u64 = 0x1000;
const RING: [u64; 3] = [GUEST, GUEST + 0x100, GUEST + 0x200];
const LEN_OF_MEMORY: usize = 0x400;

/// Header and frame: what it asks lies within the frame, and can be said again. Ring: what it gives out lies within the memory.
pub fn virtio(data: &[u8]) {
    let (head, rest) = data.split_at(data.len().min(LEN));
    let mut bytes = [0; LEN];
    bytes[..head.len()].copy_from_slice(head);
    header(&Header::from_bytes(&bytes), rest);
    ring(rest);
}

fn header(header: &Header, frame: &[u8]) {
    assert_eq!(Header::from_bytes(&header.to_bytes()), *header);
    match header.received(frame) {
        Ok(Received::Packet(flags, lengths)) if flags & TX_REQUESTS != 0 => {
            assert!(lengths.transport_start() + 8 <= frame.len());
            let again = Header::to_send(flags, lengths, frame).expect("what was received can be sent");
            assert_eq!(again.checksum(), header.checksum());
            // A tunnel may be there without being told of.
            if flags & TX_TUNNEL_MASK == 0 {
                assert_eq!(again.segmentation(), header.segmentation());
            }
        }
        Ok(Received::Packet(..)) => assert_eq!((header.checksum(), header.segmentation()), (None, None)),
        Ok(Received::Complete(start, field)) => assert!(start <= field && field + 2 <= frame.len()),
        Err(Bad) => {}
    }
}

fn ring(data: &[u8]) {
    let mut words = vec![0; LEN_OF_MEMORY / 8];
    for (word, bytes) in words.iter_mut().zip(data.chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(whole);
    }
    let memory = Memory::own(GUEST, words.into_boxed_slice());
    let next = u16::from(data.first().copied().unwrap_or(0));
    let mut ring = SplitRing::in_own(memory, RING, SIZE, next % 2 == 1, next).expect("a ring");
    for _ in 0..ring.available() {
        let mut pieces = Vec::new();
        let Ok(head) = ring.chain(0, next % 4 < 2, &mut pieces) else { break };
        assert!(pieces.len() <= MAX_CHAIN);
        for piece in pieces {
            assert_eq!(ring.memory().guest_address(piece.host, piece.len), Some(piece.guest));
        }
        ring.give_back(head, 1);
    }
    ring.publish();
    assert!(ring.available() <= SIZE);
}
