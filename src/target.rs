//! Targets: families of output files. A target knows its dtypes, how values become its parts and come back, what its
//! consumer calls things, and what its files say of themselves. Plans are made here.
