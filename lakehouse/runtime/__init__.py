"""Java, the jars, the JVM and its class archive, the Spark session, and the memory of a process."""
