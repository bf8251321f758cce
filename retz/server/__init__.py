"""The server: wires store, scheduler and engine together and speaks HTTP. Only this package sees everything."""
