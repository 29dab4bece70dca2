//! UDP sockets whose every datagram has its own IP options.
