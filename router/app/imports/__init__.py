"""An import put together: `copying` and `checking` have a function for each command of `figueira migrate`."""
