//! Locked, wiped, never-dumped memory and the process lockdown.
