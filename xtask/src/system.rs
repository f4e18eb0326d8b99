//! What this system is and how it installs things.
