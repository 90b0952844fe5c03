//! Declares an enumeration of named, described, countable reasons.

/// A `thiserror` enum without fields whose variants index an array of counters and carry the name and the
/// description that users see.
macro_rules! reasons {
    (
        $(#[$meta:meta])*
        pub enum $enum:ident {
            $($variant:ident = $name:literal, $description:literal;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
        #[repr(u8)]
        pub enum $enum {
            $(
                #[doc = $description]
                #[error($description)]
                $variant,
            )+
        }

        impl $enum {
            /// Every variant, in the order of [`Self::index`].
            pub const ALL: [$enum; [$($enum::$variant),+].len()] = [$($enum::$variant),+];
            /// Number of variants: the length of an array of counters.
            pub const COUNT: usize = Self::ALL.len();

            /// Position in an array of counters, below [`Self::COUNT`].
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// Short, stable name (lower case, underscores), as counters show it.
            pub const fn name(self) -> &'static str {
                match self {
                    $($enum::$variant => $name,)+
                }
            }

            /// One line for a person.
            pub const fn description(self) -> &'static str {
                match self {
                    $($enum::$variant => $description,)+
                }
            }
        }
    };
}

pub(crate) use reasons;
