//! A real gate over real sockets, in front of a stand-in domain that checks each signature on its own.

mod support;

/// What reaches the domain, and what comes back.
mod forward;

/// Heads and bodies that could be read in two ways.
mod smuggling;

/// What a client may take: size, time, memory, connections.
mod limits;

/// A domain that is away, slow, broken, or of another opinion.
mod failures;
