//! `walcast dev`: a private PostgreSQL, a demo schema and a server, until Ctrl-C.
