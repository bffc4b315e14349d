"""How each endpoint is asked and answered: natively, or by a backend that only chats."""
