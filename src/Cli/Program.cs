Console.WriteLine("mend");
