//! Clients that come and go. A process of its own: it counts what the process holds.
#![cfg(feature = "testserver")]
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

#[path = "client/support.rs"]
mod support;

use anytls_mobile::testserver::Service;
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;

use support::*;

/// How many entries a folder of the process's own has.
fn count(folder: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{folder}")).expect("a system with /proc").count()
}

#[tokio::test]
async fn two_hundred_clients_leave_descriptors_threads_and_tasks_as_they_were() {
    let server = serving(Service::Echo).await;
    let holdings = || (count("fd"), count("task"), Handle::current().metrics().num_alive_tasks());
    let mut before = None;
    for cycle in 0..200 {
        let client = client(&server);
        let mut stream = client.open(&target(), b"hello").await.expect("opened");
        let idle = client.open(&target(), b"").await.expect("opened");
        drop(idle);
        let mut echoed = [0; 5];
        stream.read_exact(&mut echoed).await.expect("read");
        client.stop().await;
        drop(stream);
        drop(client);
        until(|| server.connections().iter().all(|seen| seen.ended)).await;
        // The first cycle may leave what a process makes once.
        let now = holdings();
        assert_eq!(*before.get_or_insert(now), now, "after cycle {cycle}");
    }
}
