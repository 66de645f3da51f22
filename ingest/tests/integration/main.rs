//! The function over real sockets: a stand-in domain that checks each signature, and real servers behind it.

/// The stand-in, and the signed way to it.
mod access_log;
mod rig;

/// Real servers behind it.
mod server;

/// The payloads that Lambda passes to the function.
mod payloads;

/// Every event is in the index once, or is said not to be, whatever the domain does.
mod delivery;

/// The function's responses to invocations by Lambda.
mod invocation;

/// The program, in front of a stand-in for Lambda.
mod program;

/// The program under AWS's own emulator of Lambda, in front of real servers.
mod emulator;

/// Real events, and hostile ones.
mod events;

/// The template on every engine, and what becomes of events under it.
mod engines;

/// Events and domains with a flaw, on real servers.
mod flawed;

/// The retention policy.
mod retention;

/// Files from a command line.
mod load;

/// The same from a bucket.
mod bucket;

/// A failed hour comes back from a bucket by one call of the function.
mod reload;

/// Dashboards on every kind of engine, and what they find there.
mod dashboards;

/// The bucket against its signatures, and the domain against the bucket.
mod verify;

/// The texts that people read.
mod texts;
