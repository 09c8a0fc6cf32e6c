//! Counters that are read without waiting for those who count.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number, or several, that one side writes and any other reads.
pub(crate) trait Counter: Copy {
    /// Where it is shared.
    type Shared: Default + Debug;

    fn load(shared: &Self::Shared) -> Self;
    fn store(self, shared: &Self::Shared);
}

impl Counter for u64 {
    type Shared = AtomicU64;

    fn load(shared: &AtomicU64) -> Self {
        shared.load(Ordering::Relaxed)
    }

    fn store(self, shared: &AtomicU64) {
        shared.store(self, Ordering::Relaxed);
    }
}

/// Declares a struct of counters, and its shared twin.
macro_rules! counters {
    (
        $(#[$about:meta])* pub struct $plain:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* }
        $(#[$twin_about:meta])* shared as $shared:ident
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $plain {
            $($(#[$doc])* pub $field: $type,)*
        }

        $(#[$twin_about])*
        #[derive(Debug, Default)]
        pub(super) struct $shared {
            $(pub(super) $field: <$type as $crate::stats::Counter>::Shared,)*
        }

        #[allow(dead_code)] // some are counted where they are shared
        impl $shared {
            /// What is counted now.
            pub(super) fn snapshot(&self) -> $plain {
                $plain { $($field: $crate::stats::Counter::load(&self.$field),)* }
            }

            /// Shows what was counted elsewhere.
            pub(super) fn show(&self, now: &$plain) {
                $($crate::stats::Counter::store(now.$field, &self.$field);)*
            }
        }
    };
}

pub(crate) use counters;
