//! A tunnel started and stopped ten thousand times, as apps do it. Alone in its file: it counts what the process
//! holds.
#![cfg(feature = "testserver")]

#[path = "ffi/support.rs"]
#[allow(dead_code)] // of which other tests use more
mod support;

use std::fs;
use std::sync::Arc;

use anytls_mobile::ffi::Tunnel;
use support::{Heard, Kind, config, is_state, silent, start, wait, wait_until};

/// Descriptors, threads, and pages of anonymous memory.
fn held() -> (usize, usize, u64) {
    let count = |folder| fs::read_dir(folder).unwrap().count();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes = memory.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    (count("/proc/self/fd"), count("/proc/self/task"), kilobytes)
}

/// Each with a listener, callbacks, and a dial that is under way when it stops.
fn cycles(count: usize) {
    let server = silent();
    let config = config(server.local_addr().unwrap());
    for number in 0..count {
        let tunnel = Tunnel::new(Some(Arc::new(Kind::default())));
        let heard = Arc::new(Heard::default());
        tunnel.subscribe(Arc::clone(&heard) as _, None).unwrap();
        let phone = start(&tunnel, config.clone()).unwrap();
        heard.wait_for(is_state(anytls_mobile::ffi::TunnelState::Connecting));
        if number % 2 == 0 {
            wait(tunnel.stop());
        }
        drop(tunnel); // the other half stops by this
        drop(phone);
        // The kernel keeps what nobody accepts.
        server.set_nonblocking(true).unwrap();
        while server.accept().is_ok() {}
    }
}

#[test]
fn ten_thousand_starts_and_stops_leave_nothing_behind() {
    cycles(500); // what is made once, and what the allocator keeps for itself
    let settled = || {
        let mut least = held();
        for _ in 0..1000 {
            let now = held();
            least = (least.0.min(now.0), least.1.min(now.1), least.2.min(now.2));
            std::thread::yield_now();
        }
        least
    };
    let before = settled();
    cycles(9_500);
    wait_until("the descriptors and threads to be gone", || {
        let (descriptors, threads, _) = held();
        descriptors <= before.0 && threads <= before.1
    });
    // Of one page lost a cycle, this would be 38 MB.
    let grown = settled().2.saturating_sub(before.2);
    assert!(grown < 4096, "{grown} KiB more than after 500");
}
