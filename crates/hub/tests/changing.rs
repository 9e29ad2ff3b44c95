//! A hub that is changed before it runs.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::sync::Arc;

use pcaphub::endpoint::Endpoint;
use pcaphub::event::Events;
use pcaphub::opener::System;
use pcaphub::plan::Plan;
use pcaphub::shutdown::{Phase, shutdown};
use pcaphub::{hub, sink, source};

fn plan(sinks: &[&str]) -> Plan {
    let endpoint = |text: &str| Endpoint::parse(text).unwrap();
    Plan {
        sources: vec![source::spec(endpoint("demo:")).unwrap()],
        sinks: sinks.iter().map(|text| sink::spec(endpoint(text)).unwrap()).collect(),
        ..Plan::default()
    }
}

#[tokio::test]
async fn a_change_that_comes_before_the_hub_runs_waits_until_it_does() {
    let (trigger, told) = shutdown();
    let hub = hub::open(plan(&["null:"]), Arc::new(System), Events::default(), told).unwrap();
    let handle = hub.handle();
    let change = tokio::spawn(async move { handle.change(plan(&["null:", "null:?name=second"])).await });
    // On one thread: it has its turn first.
    tokio::task::yield_now().await;
    let running = tokio::spawn(hub.run());
    assert_eq!(change.await.unwrap().unwrap().came, 1);
    trigger.advance(Phase::Draining);
    assert!(running.await.unwrap().errors.is_empty());
}

#[tokio::test]
async fn a_hub_that_never_runs_takes_no_change() {
    let (_trigger, told) = shutdown();
    let hub = hub::open(plan(&["null:"]), Arc::new(System), Events::default(), told).unwrap();
    let handle = hub.handle();
    drop(hub);
    assert!(handle.change(plan(&["null:"])).await.is_err());
}
