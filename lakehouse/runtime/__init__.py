"""What the product runs on: Java, the jars, the JVM and its classes, the Spark session, process memory."""
