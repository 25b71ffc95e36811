KIND = "hook"
