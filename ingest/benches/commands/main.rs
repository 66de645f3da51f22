//! Rates of `trailgate-ingest load` and `verify`, with a real OpenSearch 2.19 on the same machine.
//!
//! `cargo bench -p trailgate-ingest --bench commands -- load 100000` compares `load` with a plain sender of the same
//! requests; `-- load 100000 URL` does so with an engine that runs already, and `-- load 100000 paced` at a domain
//! that takes a fixed time for each request and hardly any of the processors. `-- verify 1000000` writes a bucket of about a
//! million events, loads it and verifies it; then it kills a verification and resumes it. Without arguments it does
//! nothing, so that a run of all benches does not take long.

mod command;
mod load;
mod paced_domain;
mod verify;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments[..] {
        [] => {}
        ["load", events] => runtime.block_on(load::compare_with_own_engine(events.parse().unwrap())),
        ["load", events, "paced"] => runtime.block_on(load::compare_at_a_paced_domain(events.parse().unwrap())),
        ["load", events, url] => runtime.block_on(load::compare(events.parse().unwrap(), url)),
        ["verify", events] => runtime.block_on(verify::measure(events.parse().unwrap())),
        _ => panic!("the arguments are `load EVENTS [URL | paced]` or `verify EVENTS`"),
    }
}
