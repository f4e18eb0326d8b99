//! The commands that the proxy answers itself.

use super::exchange::begins_with;

/// What no candidate may ask of a broker that others use at the same time, or that would
/// make the proxy blind.
const FORBIDDEN: [&str; 36] = [
    "ACL",
    "BGREWRITEAOF",
    "BGSAVE",
    "CLIENT KILL",
    "CLIENT NO-EVICT",
    "CLIENT PAUSE",
    "CLIENT REPLY",
    "CLIENT UNPAUSE",
    "CLUSTER",
    "CONFIG",
    "DEBUG",
    "FAILOVER",
    "FLUSHALL",
    "FLUSHDB",
    "FUNCTION DELETE",
    "FUNCTION FLUSH",
    "FUNCTION KILL",
    "FUNCTION RESTORE",
    "LATENCY RESET",
    "MIGRATE",
    "MODULE",
    "MONITOR",
    "PFDEBUG",
    "PSYNC",
    "REPLCONF",
    "REPLICAOF",
    "RESTORE-ASKING",
    "SAVE",
    "SCRIPT DEBUG",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "SHUTDOWN",
    "SLAVEOF",
    "SLOWLOG RESET",
    "SWAPDB",
    "SYNC",
];

/// Why the proxy refuses this command; none if it does not.
pub(super) fn refusal(command: &[Vec<u8>]) -> Option<String> {
    let initial = command[0].first()?.to_ascii_uppercase();
    // Looked at for every command, and almost all of them are out at once.
    if matches!(initial, b'E' | b'G' | b'H' | b'X') {
        return None;
    }
    FORBIDDEN
        .iter()
        .filter(|name| name.as_bytes()[0] == initial)
        .find(|name| begins_with(command, name))
        .map(|name| format!("ERR {name} is not for candidates: this broker is shared with others"))
}
