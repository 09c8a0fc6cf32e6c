//! Counters that several tasks add to.

/// Declares a struct of counters, and its shared twin.
macro_rules! counters {
    (
        $(#[$about:meta])* pub struct $plain:ident { $($(#[$doc:meta])* pub $field:ident: u64,)* }
        $(#[$twin_about:meta])* shared as $shared:ident
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $plain {
            $($(#[$doc])* pub $field: u64,)*
        }

        $(#[$twin_about])*
        #[derive(Debug, Default)]
        pub(super) struct $shared {
            $(pub(super) $field: std::sync::atomic::AtomicU64,)*
        }

        impl $shared {
            /// What is counted now.
            pub(super) fn snapshot(&self) -> $plain {
                $plain { $($field: self.$field.load(std::sync::atomic::Ordering::Relaxed),)* }
            }
        }
    };
}

pub(crate) use counters;
