//! A real gate over real sockets, in front of a stand-in domain that checks each signature on its own.

mod support;

/// What reaches the domain, and what comes back.
mod forward;

/// The same, exchange by exchange, of two recorded sessions of a browser.
mod recorded;

/// What a client with a read grant could do harm with.
mod attacks;

/// Who is let in, and for how long.
mod allowlist;

/// What those who are let in may do.
mod grants;

/// What is written of each request.
mod access_log;

/// An access log that cannot be written.
mod log_failure;

/// The real program: its files, its signals, its exit codes.
mod program;

/// What the operator is told: health, metrics, status.
mod admin;

/// What systemd is told, and what it passes on.
mod systemd;

/// Where the program finds what it signs with, and what happens as that changes.
mod credentials;

/// Requests that are signed with a role of an entry, and the sessions that do it.
mod roles;

/// The domain's own authorization as a second lock, by the security plug-in of a real engine.
mod two_locks;

/// The texts that people read.
mod texts;

/// The allowlist from the shell.
mod allow;

/// What is found wrong, fault by fault.
mod doctor;

/// What is shipped beside the program.
mod generate;

/// What happens to requests in flight when the gate stops.
mod shutdown;

/// Real servers behind the gate, driven by their official clients.
mod engines;

/// The signature itself, over URLs of every kind.
mod signature;

/// Heads and bodies that could be read in two ways.
mod smuggling;

/// TLS towards the client, and its certificates.
mod tls;

/// HTTP/2 towards the client.
mod http2;

/// What others than our own client see of the gate.
mod browser;

/// An analyst's session with a real Kibana.
mod kibana;

/// Several listeners, the way to https, and load balancers that pass on TCP.
mod listeners;

/// What a client may take: size, time, memory, connections.
mod limits;

/// Many clients that behave badly at once.
mod load;

/// A node of the domain that vanishes without a word.
mod vanished;

/// A domain that is away, slow or broken.
mod failures;

/// A domain that rejects the signature.
mod rejected_signatures;
