//! The sum for a Network Extension, which iOS ends without a word when it has too much.
//!
//! What iOS counts is the footprint: pages that were written, be they compressed since. Code and what else is read from
//! files does not count, nor does address space that nobody has touched.

use super::{BATCH_IN_BYTES, BATCH_OUT_BYTES, Budget, KIB, MIB};

/// What a packet tunnel provider may have from iOS 15 on; it was 15 MiB before. Apple's documents do not say it, its
/// kernel's log does when it ends one.
pub const EXTENSION_BYTES: usize = 50 * MIB;

/// `tun.memory_limit` on iOS: what the shares of a [`Budget`] come to.
pub const IOS_LIMIT_BYTES: usize = 12 * MIB;
/// `server.max_sessions` there.
pub const IOS_MAX_SESSIONS: usize = 64;

/// The stack of each of our threads: what Android gives its own; iOS gives half. Callbacks of the app run on them.
/// Only pages that were touched cost memory, which are some tens of KiB; the sum counts them whole.
pub const STACK_BYTES: usize = MIB;
/// Name look-ups at once, each a thread that may hang for half a minute, whatever becomes of who asked.
pub const MAX_LOOKUPS: usize = 4;
/// Threads at once: the tunnel's, the listeners', the log's; one that starts a tunnel and one that stops it; look-ups,
/// and those that hang of the run before. An app that calls `start` or `stop` again while one is under way has a
/// thread more for each, until that is done.
pub const MAX_THREADS: usize = 3 + 2 + 2 * MAX_LOOKUPS;

/// Log lines that wait for the app.
pub const LOG_BYTES: usize = 64 * KIB;
/// The longest config that is read: sing-box configs with long rule lists stay below it.
pub const CONFIG_TEXT_BYTES: usize = MIB;

/// What crosses the border to Swift exists more than once while it does: packets and log lines as the bindings' bytes
/// and as the app's objects, a config as bytes, as text and as the tree that is read.
const CROSSING_BYTES: usize = 2 * (BATCH_IN_BYTES + BATCH_OUT_BYTES + LOG_BYTES) + 3 * CONFIG_TEXT_BYTES;

/// What the budget does not see of the core's heap: the allocator's headers, rounding and gaps, TLS settings with
/// their roots and tickets, tasks and tables. Measured by `bench extension`: 2 MiB of anonymous pages, stacks included.
pub const UNCOUNTED_BYTES: usize = 4 * MIB;

/// The rest of the process: the Swift runtime, Foundation and NetworkExtension, the provider's own objects, and what
/// the library writes of its data (0.2 MiB). An estimate, with room to spare: providers that carry nothing are
/// reported with 5 to 8 MiB.
const SYSTEM_BYTES: usize = 16 * MIB;

const OURS: usize =
    IOS_LIMIT_BYTES + UNCOUNTED_BYTES + LOG_BYTES + CROSSING_BYTES + MAX_THREADS * STACK_BYTES;
const _: () = assert!(OURS + SYSTEM_BYTES <= EXTENSION_BYTES, "the core fits a Network Extension");

const _: () = {
    let mut eager = false;
    loop {
        let ios = Budget::divide(IOS_LIMIT_BYTES, IOS_MAX_SESSIONS, eager);
        assert!(ios.worst_case() <= IOS_LIMIT_BYTES, "the shares of iOS' default fit its limit");
        assert!(ios.max_sessions == IOS_MAX_SESSIONS, "every session of iOS' default has its floor");
        assert!(ios.max_flows >= 800, "a phone's flows have room");
        if eager {
            break;
        }
        eager = true;
    }
};
