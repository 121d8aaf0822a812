//! Empty: the program is the binary of this package. The library target exists so that the agent
//! can name this package as a build dependency, and cargo rebuilds it when the source changes.
#![no_std]
