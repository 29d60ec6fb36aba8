//! Verified token contents, and everyone who must get the same verdict.
