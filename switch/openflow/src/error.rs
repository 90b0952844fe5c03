//! Errors of the protocol: a name, and its numbers in each version.

use crate::Version;
use std::borrow::Cow;

/// Nicira's experimenter number.
pub const NICIRA: u32 = 0x0000_2320;
/// The Open Networking Foundation's.
pub const ONF: u32 = 0x4f4e_4600;
/// Error type of Nicira's errors in OpenFlow 1.0 and 1.1 (`NXET_VENDOR`).
const NXET_VENDOR: u16 = 0xb0c2;
/// Error type of experimenters' errors since OpenFlow 1.2 (`OFPET12_EXPERIMENTER`).
const OFPET_EXPERIMENTER: u16 = 0xffff;

/// Numbers of an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Numbers {
    /// Type and code.
    Standard(u16, u16),
    /// Type and code of Nicira's.
    Nicira(u16, u16),
    /// Type of the ONF's, and nothing.
    Onf(u16, u16),
}

/// Why a message is refused: OpenFlow's code, and what was wrong in words for a log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {why}", code.name())]
pub struct Error {
    /// What the other side is told.
    pub code: Code,
    /// For people.
    pub why: Cow<'static, str>,
}

impl Error {
    /// An error with its reason.
    pub fn new(code: Code, why: impl Into<Cow<'static, str>>) -> Error {
        Error { code, why: why.into() }
    }
}

/// Declares the errors. A row is: variant, name, and numbers by versions of the protocol.
macro_rules! errors {
    ($($(#[$doc:meta])* $variant:ident $name:literal [$($low:literal..=$high:literal $kind:ident($type:literal, $code:literal)),*];)*) => {
        /// An error of the protocol by its name, without `OFPERR_`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        static TABLE: &[(Code, &str, &[(u8, u8, Numbers)])] =
            &[$((Code::$variant, $name, &[$(($low, $high, Numbers::$kind($type, $code)),)*]),)*];
    };
}

impl Code {
    /// Every error.
    pub fn all() -> impl Iterator<Item = Code> {
        TABLE.iter().map(|row| row.0)
    }

    /// Its name without `OFPERR_`.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    fn numbers(self, version: Version) -> Option<Numbers> {
        let fits = |row: &&(u8, u8, Numbers)| (row.0..=row.1).contains(&version.number());
        TABLE[self as usize].2.iter().find(fits).map(|row| row.2)
    }

    /// The body of an error message up to the copy of the refused message. What a version has no number for is said
    /// to be one that cannot be said.
    pub fn encode(self, version: Version) -> Vec<u8> {
        let numbers = self.numbers(version).or_else(|| Code::NxbrcUnencodableError.numbers(version));
        let old = version == Version::V10;
        let (kind, code, experimenter) = match numbers {
            Some(Numbers::Standard(kind, code)) => (kind, code, None),
            Some(Numbers::Nicira(kind, code)) if old => (NXET_VENDOR, 0, Some((NICIRA, Some((kind, code))))),
            Some(Numbers::Nicira(kind, _)) => (OFPET_EXPERIMENTER, kind, Some((NICIRA, None))),
            Some(Numbers::Onf(kind, _)) => (OFPET_EXPERIMENTER, kind, Some((ONF, None))),
            // Every version has one of the two.
            None => (1, 1, None),
        };
        let mut out = [kind.to_be_bytes(), code.to_be_bytes()].concat();
        if let Some((experimenter, more)) = experimenter {
            out.extend_from_slice(&experimenter.to_be_bytes());
            if let Some((kind, code)) = more {
                out.extend_from_slice(&[kind.to_be_bytes(), code.to_be_bytes()].concat());
            }
        }
        out
    }

    /// The error that the body of an error message begins with, and how long that beginning is.
    pub fn decode(body: &[u8], version: Version) -> Option<(Code, usize)> {
        let short = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
        let (kind, code) = (short(0)?, short(2)?);
        let experimenter = || Some(u32::from_be_bytes(body.get(4..8)?.try_into().ok()?));
        let (numbers, length) = if kind == NXET_VENDOR && version == Version::V10 {
            experimenter().filter(|vendor| *vendor == NICIRA)?;
            (Numbers::Nicira(short(8)?, short(10)?), 12)
        } else if kind == OFPET_EXPERIMENTER {
            match experimenter()? {
                NICIRA => (Numbers::Nicira(code, 0), 8),
                ONF => (Numbers::Onf(code, 0), 8),
                _ => return None,
            }
        } else {
            (Numbers::Standard(kind, code), 4)
        };
        Code::all().find(|code| code.numbers(version) == Some(numbers)).map(|code| (code, length))
    }
}

errors! {
    /// No compatible version.
    OfphfcIncompatible "OFPHFC_INCOMPATIBLE" [1..=6 Standard(0, 0)];
    /// Permissions error.
    OfphfcEperm "OFPHFC_EPERM" [1..=6 Standard(0, 1)];
    /// Ofp_header.version not supported.
    OfpbrcBadVersion "OFPBRC_BAD_VERSION" [1..=6 Standard(1, 0)];
    /// Ofp_header.type not supported.
    OfpbrcBadType "OFPBRC_BAD_TYPE" [1..=6 Standard(1, 1)];
    /// Ofp_stats_msg.type not supported.
    OfpbrcBadStat "OFPBRC_BAD_STAT" [1..=6 Standard(1, 2)];
    /// Vendor not supported (in ofp_vendor_header or ofp_stats_msg).
    OfpbrcBadVendor "OFPBRC_BAD_VENDOR" [1..=6 Standard(1, 3)];
    /// Vendor subtype not supported.
    OfpbrcBadSubtype "OFPBRC_BAD_SUBTYPE" [1..=6 Standard(1, 4)];
    /// Permissions error.
    OfpbrcEperm "OFPBRC_EPERM" [1..=6 Standard(1, 5)];
    /// Wrong request length for type.
    OfpbrcBadLen "OFPBRC_BAD_LEN" [1..=6 Standard(1, 6)];
    /// Specified buffer has already been used.
    OfpbrcBufferEmpty "OFPBRC_BUFFER_EMPTY" [1..=6 Standard(1, 7)];
    /// Specified buffer does not exist.
    OfpbrcBufferUnknown "OFPBRC_BUFFER_UNKNOWN" [1..=6 Standard(1, 8)];
    /// Specified table-id invalid or does not exist.
    OfpbrcBadTableId "OFPBRC_BAD_TABLE_ID" [1..=1 Nicira(1, 512), 2..=6 Standard(1, 9)];
    /// Denied because controller has secondary role.
    OfpbrcIsSecondary "OFPBRC_IS_SECONDARY" [1..=2 Standard(1, 5), 3..=6 Standard(1, 10)];
    /// Invalid or missing port.
    OfpbrcBadPort "OFPBRC_BAD_PORT" [1..=2 Nicira(1, 514), 3..=6 Standard(1, 11)];
    /// Invalid packet in packet-out.
    OfpbrcBadPacket "OFPBRC_BAD_PACKET" [3..=6 Standard(1, 12)];
    /// Multipart request overflowed the assigned buffer.
    OfpbrcMultipartBufferOverflow "OFPBRC_MULTIPART_BUFFER_OVERFLOW" [4..=6 Standard(1, 13)];
    /// Timeout during multipart request.
    OfpbrcMultipartRequestTimeout "OFPBRC_MULTIPART_REQUEST_TIMEOUT" [4..=4 Onf(2640, 0), 5..=6 Standard(1, 14)];
    /// Timeout during multipart reply.
    OfpbrcMultipartReplyTimeout "OFPBRC_MULTIPART_REPLY_TIMEOUT" [4..=4 Onf(2641, 0), 5..=6 Standard(1, 15)];
    /// Switch received a OFPMP_BUNDLE_FEATURES request and failed to update the scheduling tolerance.
    OfpbrcMultipartBadSched "OFPBRC_MULTIPART_BAD_SCHED" [6..=6 Standard(1, 16)];
    /// Match fields must include only pipeline fields.
    OfpbrcPipelineFieldsOnly "OFPBRC_PIPELINE_FIELDS_ONLY" [6..=6 Standard(1, 17)];
    /// Unspecified error.
    OfpbrcUnknown "OFPBRC_UNKNOWN" [6..=6 Standard(1, 18)];
    /// Invalid NXM flow match.
    NxbrcNxmInvalid "NXBRC_NXM_INVALID" [1..=2 Nicira(1, 256), 3..=6 Nicira(2, 0)];
    /// The nxm_type, or nxm_type taken in combination with nxm_hasmask or nxm_length or both, is invalid or unknown to the switch.
    NxbrcNxmBadType "NXBRC_NXM_BAD_TYPE" [1..=2 Nicira(1, 257), 3..=6 Nicira(3, 0)];
    /// Must-be-zero field had nonzero value.
    NxbrcMustBeZero "NXBRC_MUST_BE_ZERO" [1..=2 Nicira(1, 515), 3..=6 Nicira(4, 0)];
    /// The reason in an ofp_port_status message is not valid.
    NxbrcBadReason "NXBRC_BAD_REASON" [1..=2 Nicira(1, 516), 3..=6 Nicira(5, 0)];
    /// The 'event' in an NXST_FLOW_MONITOR reply does not specify one of the NXFME_ABBREV, NXFME_ADD, NXFME_DELETE, or NXFME_MODIFY.
    NxbrcFmBadEvent "NXBRC_FM_BAD_EVENT" [1..=2 Nicira(1, 520), 3..=6 Nicira(9, 0)];
    /// The error that occurred cannot be represented in this OpenFlow version.
    NxbrcUnencodableError "NXBRC_UNENCODABLE_ERROR" [1..=2 Nicira(1, 521), 3..=6 Nicira(10, 0)];
    /// Unknown or unsupported action type.
    OfpbacBadType "OFPBAC_BAD_TYPE" [1..=6 Standard(2, 0)];
    /// Length problem in actions.
    OfpbacBadLen "OFPBAC_BAD_LEN" [1..=6 Standard(2, 1)];
    /// Unknown experimenter id specified.
    OfpbacBadVendor "OFPBAC_BAD_VENDOR" [1..=6 Standard(2, 2)];
    /// Unknown action type for experimenter id.
    OfpbacBadVendorType "OFPBAC_BAD_VENDOR_TYPE" [1..=6 Standard(2, 3)];
    /// Problem validating output port.
    OfpbacBadOutPort "OFPBAC_BAD_OUT_PORT" [1..=6 Standard(2, 4)];
    /// Bad action argument.
    OfpbacBadArgument "OFPBAC_BAD_ARGUMENT" [1..=6 Standard(2, 5)];
    /// Permissions error.
    OfpbacEperm "OFPBAC_EPERM" [1..=6 Standard(2, 6)];
    /// Can't handle this many actions.
    OfpbacTooMany "OFPBAC_TOO_MANY" [1..=6 Standard(2, 7)];
    /// Problem validating output queue.
    OfpbacBadQueue "OFPBAC_BAD_QUEUE" [1..=6 Standard(2, 8)];
    /// Invalid group id in output action.
    OfpbacBadOutGroup "OFPBAC_BAD_OUT_GROUP" [1..=1 Nicira(2, 9), 2..=6 Standard(2, 9)];
    /// Action can't apply for this match or a prerequisite for use of this field is unmet.
    OfpbacMatchInconsistent "OFPBAC_MATCH_INCONSISTENT" [1..=1 Nicira(1, 522), 2..=6 Standard(2, 10)];
    /// Action order is unsupported for the action list in an Apply-Actions instruction.
    OfpbacUnsupportedOrder "OFPBAC_UNSUPPORTED_ORDER" [2..=6 Standard(2, 11)];
    /// Actions uses an unsupported tag/encap.
    OfpbacBadTag "OFPBAC_BAD_TAG" [2..=6 Standard(2, 12)];
    /// Action uses unknown or unsupported OXM or NXM field.
    OfpbacBadSetType "OFPBAC_BAD_SET_TYPE" [1..=2 Nicira(1, 523), 3..=6 Standard(2, 13)];
    /// Action references past the end of an OXM or NXM field, or uses a length of zero.
    OfpbacBadSetLen "OFPBAC_BAD_SET_LEN" [1..=2 Nicira(1, 524), 3..=6 Standard(2, 14)];
    /// Action sets a field to an invalid or unsupported value, or modifies a read-only field.
    OfpbacBadSetArgument "OFPBAC_BAD_SET_ARGUMENT" [1..=2 Nicira(1, 525), 3..=6 Standard(2, 15)];
    /// Field in Set-Field action has Has-Mask bit set to 1.
    OfpbacBadSetMask "OFPBAC_BAD_SET_MASK" [4..=5 Onf(4250, 0), 6..=6 Standard(2, 16)];
    /// Invalid meter id in meter action.
    OfpbacBadMeter "OFPBAC_BAD_METER" [6..=6 Standard(2, 17)];
    /// Must-be-zero action argument had nonzero value.
    NxbacMustBeZero "NXBAC_MUST_BE_ZERO" [1..=2 Nicira(2, 256), 3..=6 Nicira(11, 0)];
    /// Conjunction action must be only action present.
    NxbacBadConjunction "NXBAC_BAD_CONJUNCTION" [1..=2 Nicira(2, 526), 3..=6 Nicira(15, 0)];
    /// Action requires connection tracking or a particular connection-tracking based feature that the datapath in use does not support.
    NxbacCtDatapathSupport "NXBAC_CT_DATAPATH_SUPPORT" [1..=2 Nicira(1, 265), 3..=6 Nicira(42, 0)];
    /// Unknown instruction.
    OfpbicUnknownInst "OFPBIC_UNKNOWN_INST" [2..=6 Standard(3, 0)];
    /// Switch or table does not support the instruction.
    OfpbicUnsupInst "OFPBIC_UNSUP_INST" [1..=1 Nicira(2, 257), 2..=6 Standard(3, 1)];
    /// Invalid Table-ID specified.
    OfpbicBadTableId "OFPBIC_BAD_TABLE_ID" [2..=6 Standard(3, 2)];
    /// Metadata value unsupported by datapath.
    OfpbicUnsupMetadata "OFPBIC_UNSUP_METADATA" [2..=6 Standard(3, 3)];
    /// Metadata mask value unsupported by datapath.
    OfpbicUnsupMetadataMask "OFPBIC_UNSUP_METADATA_MASK" [2..=6 Standard(3, 4)];
    /// Unknown experimenter id specified.
    OfpbicBadExperimenter "OFPBIC_BAD_EXPERIMENTER" [2..=6 Standard(3, 5)];
    /// Unknown instruction for experimenter id.
    OfpbicBadExpType "OFPBIC_BAD_EXP_TYPE" [2..=2 Standard(3, 5), 3..=6 Standard(3, 6)];
    /// Length problem in instructions.
    OfpbicBadLen "OFPBIC_BAD_LEN" [3..=6 Standard(3, 7)];
    /// Permissions error.
    OfpbicEperm "OFPBIC_EPERM" [3..=6 Standard(3, 8)];
    /// Duplicate instruction.
    OfpbicDupInst "OFPBIC_DUP_INST" [2..=2 Nicira(3, 256), 3..=4 Onf(2600, 0), 5..=6 Standard(3, 9)];
    /// Unsupported match type specified by the match.
    OfpbmcBadType "OFPBMC_BAD_TYPE" [2..=6 Standard(4, 0)];
    /// Length problem in match.
    OfpbmcBadLen "OFPBMC_BAD_LEN" [2..=6 Standard(4, 1)];
    /// Match uses an unsupported tag/encap.
    OfpbmcBadTag "OFPBMC_BAD_TAG" [2..=6 Standard(4, 2)];
    /// Unsupported datalink addr mask - switch does not support arbitrary datalink address mask.
    OfpbmcBadDlAddrMask "OFPBMC_BAD_DL_ADDR_MASK" [2..=6 Standard(4, 3)];
    /// Unsupported network addr mask - switch does not support arbitrary network address mask.
    OfpbmcBadNwAddrMask "OFPBMC_BAD_NW_ADDR_MASK" [2..=6 Standard(4, 4)];
    /// Unsupported wildcard specified in the match.
    OfpbmcBadWildcards "OFPBMC_BAD_WILDCARDS" [1..=1 Nicira(1, 262), 2..=6 Standard(4, 5)];
    /// Unsupported field in the match.
    OfpbmcBadField "OFPBMC_BAD_FIELD" [1..=1 Nicira(0, 263), 2..=6 Standard(4, 6)];
    /// Unsupported value in a match field.
    OfpbmcBadValue "OFPBMC_BAD_VALUE" [1..=1 Nicira(1, 258), 2..=6 Standard(4, 7)];
    /// Unsupported mask specified in the match.
    OfpbmcBadMask "OFPBMC_BAD_MASK" [1..=2 Nicira(1, 259), 3..=6 Standard(4, 8)];
    /// A prerequisite was not met.
    OfpbmcBadPrereq "OFPBMC_BAD_PREREQ" [1..=2 Nicira(1, 260), 3..=6 Standard(4, 9)];
    /// A field type was duplicated.
    OfpbmcDupField "OFPBMC_DUP_FIELD" [1..=2 Nicira(1, 261), 3..=6 Standard(4, 10)];
    /// Permissions error.
    OfpbmcEperm "OFPBMC_EPERM" [3..=6 Standard(4, 11)];
    /// Flow match requires connection tracking or a particular connection-tracking based feature that the datapath in use does not support.
    NxbmcCtDatapathSupport "NXBMC_CT_DATAPATH_SUPPORT" [1..=2 Nicira(1, 264), 3..=6 Nicira(43, 0)];
    /// Unspecified error.
    OfpfmfcUnknown "OFPFMFC_UNKNOWN" [2..=6 Standard(5, 0)];
    /// Flow not added because of full table(s).
    OfpfmfcTableFull "OFPFMFC_TABLE_FULL" [1..=1 Standard(3, 0), 2..=6 Standard(5, 1)];
    /// Table does not exist.
    OfpfmfcBadTableId "OFPFMFC_BAD_TABLE_ID" [2..=6 Standard(5, 2)];
    /// Attempted to add overlapping flow with CHECK_OVERLAP flag set.
    OfpfmfcOverlap "OFPFMFC_OVERLAP" [1..=1 Standard(3, 1), 2..=6 Standard(5, 3)];
    /// Permissions error.
    OfpfmfcEperm "OFPFMFC_EPERM" [1..=1 Standard(3, 2), 2..=6 Standard(5, 4)];
    /// Flow not added because of unsupported idle/hard timeout.
    OfpfmfcBadTimeout "OFPFMFC_BAD_TIMEOUT" [2..=6 Standard(5, 5)];
    /// Flow not added because of non-zero idle/hard timeout.
    OfpfmfcBadEmergTimeout "OFPFMFC_BAD_EMERG_TIMEOUT" [1..=1 Standard(3, 3)];
    /// Unsupported or unknown command.
    OfpfmfcBadCommand "OFPFMFC_BAD_COMMAND" [1..=1 Standard(3, 4), 2..=6 Standard(5, 6)];
    /// Unsupported or unknown flags.
    OfpfmfcBadFlags "OFPFMFC_BAD_FLAGS" [1..=1 Nicira(3, 258), 2..=2 Nicira(5, 258), 3..=6 Standard(5, 7)];
    /// Problem in table synchronization.
    OfpfmfcCantSync "OFPFMFC_CANT_SYNC" [5..=6 Standard(5, 8)];
    /// Unsupported priority value.
    OfpfmfcBadPriority "OFPFMFC_BAD_PRIORITY" [4..=4 Onf(2360, 0), 5..=6 Standard(5, 9)];
    /// Synchronized flow entry is read only.
    OfpfmfcIsSync "OFPFMFC_IS_SYNC" [5..=6 Standard(5, 10)];
    /// Unsupported action list - cannot process in the order specified.
    OfpfmfcUnsupported "OFPFMFC_UNSUPPORTED" [1..=1 Standard(3, 5)];
    /// Generic hardware error.
    NxfmfcHardware "NXFMFC_HARDWARE" [1..=2 Nicira(5, 256), 3..=6 Nicira(12, 0)];
    /// A nonexistent table ID was specified in the "command" field of struct ofp_flow_mod, when the nxt_flow_mod_table_id extension is enabled.
    NxfmfcBadTableId "NXFMFC_BAD_TABLE_ID" [1..=2 Nicira(5, 257), 3..=6 Nicira(13, 0)];
    /// Attempted to add a flow with an invalid variable length meta-flow field.
    NxfmfcInvalidTlvField "NXFMFC_INVALID_TLV_FIELD" [1..=2 Nicira(1, 536), 3..=6 Nicira(37, 0)];
    /// Group not added because a group ADD attempted to replace an already-present group.
    OfpgmfcGroupExists "OFPGMFC_GROUP_EXISTS" [1..=1 Nicira(6, 0), 2..=6 Standard(6, 0)];
    /// Group not added because Group specified is invalid.
    OfpgmfcInvalidGroup "OFPGMFC_INVALID_GROUP" [1..=1 Nicira(6, 1), 2..=6 Standard(6, 1)];
    /// Switch does not support unequal load sharing with select groups.
    OfpgmfcWeightUnsupported "OFPGMFC_WEIGHT_UNSUPPORTED" [1..=1 Nicira(6, 2), 2..=6 Standard(6, 2)];
    /// The group table is full.
    OfpgmfcOutOfGroups "OFPGMFC_OUT_OF_GROUPS" [1..=1 Nicira(6, 3), 2..=6 Standard(6, 3)];
    /// The maximum number of action buckets for a group has been exceeded.
    OfpgmfcOutOfBuckets "OFPGMFC_OUT_OF_BUCKETS" [1..=1 Nicira(6, 4), 2..=6 Standard(6, 4)];
    /// Switch does not support groups that forward to groups.
    OfpgmfcChainingUnsupported "OFPGMFC_CHAINING_UNSUPPORTED" [1..=1 Nicira(6, 5), 2..=6 Standard(6, 5)];
    /// This group cannot watch the watch_port or watch_group specified.
    OfpgmfcWatchUnsupported "OFPGMFC_WATCH_UNSUPPORTED" [1..=1 Nicira(6, 6), 2..=6 Standard(6, 6)];
    /// Group entry would cause a loop.
    OfpgmfcLoop "OFPGMFC_LOOP" [1..=1 Nicira(6, 7), 2..=6 Standard(6, 7)];
    /// Group not modified because a group MODIFY attempted to modify a non-existent group.
    OfpgmfcUnknownGroup "OFPGMFC_UNKNOWN_GROUP" [1..=1 Nicira(6, 8), 2..=6 Standard(6, 8)];
    /// Group not deleted because another group is forwarding to it.
    OfpgmfcChainedGroup "OFPGMFC_CHAINED_GROUP" [1..=1 Nicira(6, 9), 3..=6 Standard(6, 9)];
    /// Unsupported or unknown group type.
    OfpgmfcBadType "OFPGMFC_BAD_TYPE" [1..=1 Nicira(6, 10), 3..=6 Standard(6, 10)];
    /// Unsupported or unknown command.
    OfpgmfcBadCommand "OFPGMFC_BAD_COMMAND" [1..=1 Nicira(6, 11), 3..=6 Standard(6, 11)];
    /// Error in bucket.
    OfpgmfcBadBucket "OFPGMFC_BAD_BUCKET" [1..=1 Nicira(6, 12), 3..=6 Standard(6, 12)];
    /// Error in watch port/group.
    OfpgmfcBadWatch "OFPGMFC_BAD_WATCH" [1..=1 Nicira(6, 13), 3..=6 Standard(6, 13)];
    /// Permissions error.
    OfpgmfcEperm "OFPGMFC_EPERM" [1..=1 Nicira(6, 14), 3..=6 Standard(6, 14)];
    /// Invalid bucket identifier used in INSERT BUCKET or REMOVE BUCKET command.
    OfpgmfcUnknownBucket "OFPGMFC_UNKNOWN_BUCKET" [1..=1 Nicira(6, 15), 6..=6 Standard(6, 15)];
    /// Can't insert bucket because a bucket already exist with that bucket-id.
    OfpgmfcBucketExists "OFPGMFC_BUCKET_EXISTS" [1..=1 Nicira(6, 16), 6..=6 Standard(6, 16)];
    /// Specified port does not exist.
    OfppmfcBadPort "OFPPMFC_BAD_PORT" [1..=1 Standard(4, 0), 2..=6 Standard(7, 0)];
    /// Specified hardware address does not match the port number.
    OfppmfcBadHwAddr "OFPPMFC_BAD_HW_ADDR" [1..=1 Standard(4, 1), 2..=6 Standard(7, 1)];
    /// Specified config is invalid.
    OfppmfcBadConfig "OFPPMFC_BAD_CONFIG" [2..=6 Standard(7, 2)];
    /// Specified advertise is invalid.
    OfppmfcBadAdvertise "OFPPMFC_BAD_ADVERTISE" [2..=6 Standard(7, 3)];
    /// Permissions error.
    OfppmfcEperm "OFPPMFC_EPERM" [3..=6 Standard(7, 4)];
    /// Specified table does not exist.
    OfptmfcBadTable "OFPTMFC_BAD_TABLE" [2..=6 Standard(8, 0)];
    /// Specified config is invalid.
    OfptmfcBadConfig "OFPTMFC_BAD_CONFIG" [2..=6 Standard(8, 1)];
    /// Permissions error.
    OfptmfcEperm "OFPTMFC_EPERM" [3..=6 Standard(8, 2)];
    /// Invalid port (or port does not exist).
    OfpqofcBadPort "OFPQOFC_BAD_PORT" [1..=1 Standard(5, 0), 2..=6 Standard(9, 0)];
    /// Queue does not exist.
    OfpqofcBadQueue "OFPQOFC_BAD_QUEUE" [1..=1 Standard(5, 1), 2..=6 Standard(9, 1)];
    /// Permissions error.
    OfpqofcEperm "OFPQOFC_EPERM" [1..=1 Standard(5, 2), 2..=6 Standard(9, 2)];
    /// System error retrieving queue details.
    NxqofcQueueError "NXQOFC_QUEUE_ERROR" [5..=6 Nicira(23, 0)];
    /// Specified flags is invalid.
    OfpscfcBadFlags "OFPSCFC_BAD_FLAGS" [2..=6 Standard(10, 0)];
    /// Specified len is invalid.
    OfpscfcBadLen "OFPSCFC_BAD_LEN" [2..=6 Standard(10, 1)];
    /// Permissions error.
    OfpscfcEperm "OFPSCFC_EPERM" [3..=6 Standard(10, 2)];
    /// Stale Message: old generation_id.
    OfprrfcStale "OFPRRFC_STALE" [3..=6 Standard(11, 0)];
    /// Controller role change unsupported.
    OfprrfcUnsup "OFPRRFC_UNSUP" [3..=6 Standard(11, 1)];
    /// Invalid role.
    OfprrfcBadRole "OFPRRFC_BAD_ROLE" [1..=2 Nicira(1, 513), 3..=6 Standard(11, 2)];
    /// Switch doesn't support changing ID.
    OfprrfcIdUnsup "OFPRRFC_ID_UNSUP" [6..=6 Standard(11, 3)];
    /// Requested ID is in use.
    OfprrfcIdInUse "OFPRRFC_ID_IN_USE" [6..=6 Standard(11, 4)];
    /// Unspecified error.
    OfpmmfcUnknown "OFPMMFC_UNKNOWN" [4..=6 Standard(12, 0)];
    /// Meter not added because a Meter ADD attempted to replace an existing Meter.
    OfpmmfcMeterExists "OFPMMFC_METER_EXISTS" [4..=6 Standard(12, 1)];
    /// Meter not added because meter specified is invalid, or invalid meter in meter action.
    OfpmmfcInvalidMeter "OFPMMFC_INVALID_METER" [4..=6 Standard(12, 2)];
    /// Meter not modified because a Meter MODIFY attempted to modify a non-existent meter, or bad meter in meter action.
    OfpmmfcUnknownMeter "OFPMMFC_UNKNOWN_METER" [4..=6 Standard(12, 3)];
    /// Unsupported or unknown command.
    OfpmmfcBadCommand "OFPMMFC_BAD_COMMAND" [4..=6 Standard(12, 4)];
    /// Flag configuration unsupported.
    OfpmmfcBadFlags "OFPMMFC_BAD_FLAGS" [4..=6 Standard(12, 5)];
    /// Rate unsupported.
    OfpmmfcBadRate "OFPMMFC_BAD_RATE" [4..=6 Standard(12, 6)];
    /// Burst size unsupported.
    OfpmmfcBadBurst "OFPMMFC_BAD_BURST" [4..=6 Standard(12, 7)];
    /// Band unsupported.
    OfpmmfcBadBand "OFPMMFC_BAD_BAND" [4..=6 Standard(12, 8)];
    /// Band value unsupported.
    OfpmmfcBadBandValue "OFPMMFC_BAD_BAND_VALUE" [4..=6 Standard(12, 9)];
    /// No more meters available.
    OfpmmfcOutOfMeters "OFPMMFC_OUT_OF_METERS" [4..=6 Standard(12, 10)];
    /// The maximum number of properties for a meter has been exceeded.
    OfpmmfcOutOfBands "OFPMMFC_OUT_OF_BANDS" [4..=6 Standard(12, 11)];
    /// Specified table does not exist.
    OfptffcBadTable "OFPTFFC_BAD_TABLE" [4..=6 Standard(13, 0)];
    /// Invalid metadata mask.
    OfptffcBadMetadata "OFPTFFC_BAD_METADATA" [4..=6 Standard(13, 1)];
    /// Permissions error.
    OfptffcEperm "OFPTFFC_EPERM" [4..=6 Standard(13, 5)];
    /// Invalid capability field.
    OfptffcBadCapa "OFPTFFC_BAD_CAPA" [6..=6 Standard(13, 6)];
    /// Invalid max_entries field.
    OfptffcBadMaxEnt "OFPTFFC_BAD_MAX_ENT" [6..=6 Standard(13, 7)];
    /// Invalid features field.
    OfptffcBadFeatures "OFPTFFC_BAD_FEATURES" [6..=6 Standard(13, 8)];
    /// Invalid command.
    OfptffcBadCommand "OFPTFFC_BAD_COMMAND" [6..=6 Standard(13, 9)];
    /// Can't handle this many flow tables.
    OfptffcTooMany "OFPTFFC_TOO_MANY" [6..=6 Standard(13, 10)];
    /// Table specified multiple times.
    NxtffcDupTable "NXTFFC_DUP_TABLE" [4..=6 Nicira(44, 0)];
    /// Unknown or unsupported property type.
    OfpbpcBadType "OFPBPC_BAD_TYPE" [1..=2 Nicira(13, 2), 3..=3 Nicira(25, 0), 4..=4 Standard(13, 2), 5..=6 Standard(14, 0)];
    /// Length problem in property.
    OfpbpcBadLen "OFPBPC_BAD_LEN" [1..=2 Nicira(13, 3), 3..=3 Nicira(26, 0), 4..=4 Standard(13, 3), 5..=6 Standard(14, 1)];
    /// Unsupported property value.
    OfpbpcBadValue "OFPBPC_BAD_VALUE" [1..=2 Nicira(13, 4), 3..=3 Nicira(27, 0), 4..=4 Standard(13, 4), 5..=6 Standard(14, 2)];
    /// Can't handle this many properties.
    OfpbpcTooMany "OFPBPC_TOO_MANY" [1..=2 Nicira(14, 3), 3..=3 Nicira(28, 0), 4..=4 Onf(4443, 0), 5..=6 Standard(14, 3)];
    /// A property type was duplicated.
    OfpbpcDupType "OFPBPC_DUP_TYPE" [1..=2 Nicira(14, 4), 3..=3 Nicira(29, 0), 4..=4 Onf(4444, 0), 5..=6 Standard(14, 4)];
    /// Unknown experimenter id specified.
    OfpbpcBadExperimenter "OFPBPC_BAD_EXPERIMENTER" [1..=2 Nicira(14, 5), 3..=3 Nicira(30, 0), 4..=4 Onf(4445, 0), 5..=6 Standard(14, 5)];
    /// Unknown exp_type for experimenter id.
    OfpbpcBadExpType "OFPBPC_BAD_EXP_TYPE" [1..=2 Nicira(14, 6), 3..=3 Nicira(31, 0), 4..=4 Onf(4446, 0), 5..=6 Standard(14, 6)];
    /// Unknown value for experimenter id.
    OfpbpcBadExpValue "OFPBPC_BAD_EXP_VALUE" [1..=2 Nicira(14, 7), 3..=3 Nicira(32, 0), 4..=4 Onf(4447, 0), 5..=6 Standard(14, 7)];
    /// Permissions error.
    OfpbpcEperm "OFPBPC_EPERM" [1..=2 Nicira(14, 8), 3..=3 Nicira(33, 0), 4..=4 Onf(4448, 0), 5..=6 Standard(14, 8)];
    /// One mask is invalid.
    OfpacfcInvalid "OFPACFC_INVALID" [4..=4 Onf(2370, 0), 5..=6 Standard(15, 0)];
    /// Requested configuration not supported.
    OfpacfcUnsupported "OFPACFC_UNSUPPORTED" [4..=4 Onf(2371, 0), 5..=6 Standard(15, 1)];
    /// Permissions error.
    OfpacfcEperm "OFPACFC_EPERM" [4..=4 Onf(2372, 0), 5..=6 Standard(15, 2)];
    /// Unspecified error.
    OfpbfcUnknown "OFPBFC_UNKNOWN" [4..=4 Onf(2300, 0), 5..=6 Standard(17, 0)];
    /// Permissions error.
    OfpbfcEperm "OFPBFC_EPERM" [4..=4 Onf(2301, 0), 5..=6 Standard(17, 1)];
    /// Bundle ID doesn't exist.
    OfpbfcBadId "OFPBFC_BAD_ID" [4..=4 Onf(2302, 0), 5..=6 Standard(17, 2)];
    /// Bundle ID already exists.
    OfpbfcBundleExist "OFPBFC_BUNDLE_EXIST" [4..=4 Onf(2303, 0), 5..=6 Standard(17, 3)];
    /// Bundle ID is closed.
    OfpbfcBundleClosed "OFPBFC_BUNDLE_CLOSED" [4..=4 Onf(2304, 0), 5..=6 Standard(17, 4)];
    /// Too many bundle IDs.
    OfpbfcOutOfBundles "OFPBFC_OUT_OF_BUNDLES" [4..=4 Onf(2305, 0), 5..=6 Standard(17, 5)];
    /// Unsupported of unknown message control type.
    OfpbfcBadType "OFPBFC_BAD_TYPE" [4..=4 Onf(2306, 0), 5..=6 Standard(17, 6)];
    /// Unsupported, unknown, or inconsistent flags.
    OfpbfcBadFlags "OFPBFC_BAD_FLAGS" [4..=4 Onf(2307, 0), 5..=6 Standard(17, 7)];
    /// Length problem in included message.
    OfpbfcMsgBadLen "OFPBFC_MSG_BAD_LEN" [4..=4 Onf(2308, 0), 5..=6 Standard(17, 8)];
    /// Inconsistent or duplicate XID.
    OfpbfcMsgBadXid "OFPBFC_MSG_BAD_XID" [4..=4 Onf(2309, 0), 5..=6 Standard(17, 9)];
    /// Unsupported message in this bundle.
    OfpbfcMsgUnsup "OFPBFC_MSG_UNSUP" [4..=4 Onf(2310, 0), 5..=6 Standard(17, 10)];
    /// Unsupported message combination in this bundle.
    OfpbfcMsgConflict "OFPBFC_MSG_CONFLICT" [4..=4 Onf(2311, 0), 5..=6 Standard(17, 11)];
    /// Cant handle this many messages in bundle.
    OfpbfcMsgTooMany "OFPBFC_MSG_TOO_MANY" [4..=4 Onf(2312, 0), 5..=6 Standard(17, 12)];
    /// One message in bundle failed.
    OfpbfcMsgFailed "OFPBFC_MSG_FAILED" [4..=4 Onf(2313, 0), 5..=6 Standard(17, 13)];
    /// Bundle is taking too long.
    OfpbfcTimeout "OFPBFC_TIMEOUT" [4..=4 Onf(2314, 0), 5..=6 Standard(17, 14)];
    /// Bundle is locking the resource.
    OfpbfcBundleInProgress "OFPBFC_BUNDLE_IN_PROGRESS" [4..=4 Onf(2315, 0), 5..=6 Standard(17, 15)];
    /// Scheduled commit was received and scheduling is not supported.
    OfpbfcSchedNotSupported "OFPBFC_SCHED_NOT_SUPPORTED" [6..=6 Standard(17, 16)];
    /// Scheduled commit time exceeds upper bound.
    OfpbfcSchedFuture "OFPBFC_SCHED_FUTURE" [6..=6 Standard(17, 17)];
    /// Scheduled commit time exceeds lower bound.
    OfpbfcSchedPast "OFPBFC_SCHED_PAST" [6..=6 Standard(17, 18)];
    /// In an OFPT_BUNDLE_ADD_MESSAGE, the OpenFlow version in the inner and outer messages differ.
    OfpbfcBadVersion "OFPBFC_BAD_VERSION" [5..=6 Nicira(22, 0)];
    /// Unspecified error.
    OfpmofcUnknown "OFPMOFC_UNKNOWN" [5..=6 Standard(16, 0)];
    /// Monitor not added because a Monitor ADD attempted to replace an existing Monitor.
    OfpmofcMonitorExists "OFPMOFC_MONITOR_EXISTS" [1..=2 Nicira(1, 517), 3..=4 Nicira(6, 0), 5..=6 Standard(16, 1)];
    /// Monitor not added because Monitor specified is invalid.
    OfpmofcInvalidMonitor "OFPMOFC_INVALID_MONITOR" [5..=6 Standard(16, 2)];
    /// Monitor not modified because a Monitor MODIFY attempted to modify a non-existent Monitor.
    OfpmofcUnknownMonitor "OFPMOFC_UNKNOWN_MONITOR" [1..=2 Nicira(1, 519), 3..=4 Nicira(8, 0), 5..=6 Standard(16, 3)];
    /// Unsupported or unknown command.
    OfpmofcBadCommand "OFPMOFC_BAD_COMMAND" [5..=6 Standard(16, 4)];
    /// Flag configuration unsupported.
    OfpmofcBadFlags "OFPMOFC_BAD_FLAGS" [1..=2 Nicira(1, 518), 3..=4 Nicira(7, 0), 5..=6 Standard(16, 5)];
    /// Specified table does not exist.
    OfpmofcBadTableId "OFPMOFC_BAD_TABLE_ID" [5..=6 Standard(16, 6)];
    /// Error in output port/group.
    OfpmofcBadOut "OFPMOFC_BAD_OUT" [5..=6 Standard(16, 7)];
    /// The TLV table mod command is not recognized as a valid operation.
    NxttmfcBadCommand "NXTTMFC_BAD_COMMAND" [1..=2 Nicira(1, 527), 3..=6 Nicira(16, 0)];
    /// The option length is not a valid option size for TLVs.
    NxttmfcBadOptLen "NXTTMFC_BAD_OPT_LEN" [1..=2 Nicira(1, 528), 3..=6 Nicira(17, 0)];
    /// The field index is out of range for the supported NX_TUN_METADATA<n> match.
    NxttmfcBadFieldIdx "NXTTMFC_BAD_FIELD_IDX" [1..=2 Nicira(1, 529), 3..=6 Nicira(18, 0)];
    /// The total set of configured options exceeds the maximum supported by the switch.
    NxttmfcTableFull "NXTTMFC_TABLE_FULL" [1..=2 Nicira(1, 530), 3..=6 Nicira(19, 0)];
    /// The controller issued an NXTTMC_ADD command for a field index that is already mapped.
    NxttmfcAlreadyMapped "NXTTMFC_ALREADY_MAPPED" [1..=2 Nicira(1, 531), 3..=6 Nicira(20, 0)];
    /// The option TLV that is attempting to be mapped is the same as one assigned to a different field.
    NxttmfcDupEntry "NXTTMFC_DUP_ENTRY" [1..=2 Nicira(1, 532), 3..=6 Nicira(21, 0)];
    /// Attempted to delete a TLV mapping that is used by any active flow.
    NxttmfcInvalidTlvDel "NXTTMFC_INVALID_TLV_DEL" [1..=2 Nicira(1, 537), 3..=6 Nicira(38, 0)];
    /// This datapath doesn't support NXT_RESUME.
    NxrNotSupported "NXR_NOT_SUPPORTED" [1..=2 Nicira(1, 533), 3..=6 Nicira(34, 0)];
    /// Continuation is stale: Open vSwitch process has been restarted or bridge has been destroyed since continuation was generated, or continuation was not generated by this Open vSwitch instance.
    NxrStale "NXR_STALE" [1..=2 Nicira(1, 534), 3..=6 Nicira(35, 0)];
    /// Protocol is not configured on this Open vSwitch instance.
    NxstNotConfigured "NXST_NOT_CONFIGURED" [1..=2 Nicira(1, 535), 3..=6 Nicira(36, 0)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_say_the_name() {
        for version in Version::all() {
            for code in Code::all() {
                let body = code.encode(version);
                let (back, length) = Code::decode(&body, version).unwrap();
                assert_eq!(length, body.len());
                // Some share their numbers with another, such as IS_SECONDARY with EPERM in OpenFlow 1.0.
                assert_eq!(back.encode(version), body, "{code:?} in {version:?}");
            }
        }
        assert_eq!(Code::OfpfmfcOverlap.encode(Version::V10), [0, 3, 0, 1]);
        assert_eq!(Code::OfpfmfcOverlap.encode(Version::V13), [0, 5, 0, 3]);
        assert_eq!(
            Code::NxbrcNxmInvalid.encode(Version::V10),
            [0xb0, 0xc2, 0, 0, 0, 0, 0x23, 0x20, 0, 1, 1, 0]
        );
        assert_eq!(Code::OfpbfcBadId.encode(Version::V13), [0xff, 0xff, 0x08, 0xfe, 0x4f, 0x4e, 0x46, 0]);
    }
}
