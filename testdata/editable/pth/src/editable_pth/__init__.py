KIND = "pth"
